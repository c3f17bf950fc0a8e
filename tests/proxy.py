"""An HTTP proxy that opens tunnels (CONNECT), for those who log in if it is so told. Every name is one machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tunnels:
    """`authorization` is the header's value that it wants; `asked` are the heads that it got."""

    authorization: str = ""
    to: str = "127.0.0.1"
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def serve(self, stream: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += stream.recv(1)
        self.asked.append(head.decode())
        lines = head.decode().split("\r\n")
        if self.authorization and f"Proxy-Authorization: {self.authorization}" not in lines:
            stream.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        port = int(lines[0].split()[1].rpartition(":")[2])
        with socket.create_connection((self.to, port)) as further:
            stream.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
            back = threading.Thread(target=_pump, args=(further, stream))
            back.start()
            _pump(stream, further)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def tunnels(authorization: str = "", host: str = "127.0.0.1") -> Iterator[Tunnels]:
    """Listens at `host`, and leads there, whatever the name."""
    made = Tunnels(authorization, host)
    threads: list[threading.Thread] = []
    streams: list[socket.socket] = []

    def each(stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            made.serve(stream)

    def accept(door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = door.accept()
                streams.append(stream)
                threads.append(threading.Thread(target=each, args=(stream,)))
                threads[-1].start()

    with socket.create_server((host, 0)) as door:
        made.port = int(door.getsockname()[1])
        listener = threading.Thread(target=accept, args=(door,))
        listener.start()
        try:
            yield made
        finally:
            door.shutdown(socket.SHUT_RDWR)
            listener.join()
            for stream in streams:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
