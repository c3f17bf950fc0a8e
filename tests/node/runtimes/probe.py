"""What an attacking algorithm runs in its container: every attempt, and what came of it, as JSON."""

PROBE = r"""
import json, os, socket, time
from concurrent.futures import ThreadPoolExecutor
def tcp(address, port):
    for attempt in range(8):  # An IPv6 address is usable only some time after the network's start.
        try:
            with socket.create_connection((address, port), timeout=1.5) as connection:
                return connection.recv(5) == b"hello"
        except OSError:
            if ":" not in address:
                raise
            time.sleep(0.4)
def dns(server, name):
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1.5)
        sender.sendto(query, (server, 53))
        answer = sender.recv(512)
        return answer[3] & 15 == 0 and answer[6:8] != b"\x00\x00"
def raw(family, protocol):
    socket.socket(getattr(socket, family), socket.SOCK_RAW, protocol).close()
    return True
def unix(address):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1.5)
        caller.connect(address.replace("@", "\0"))
    return True
def write(path, text):
    with open(path, "w") as stream:
        stream.write(text)
    return True
def reads(path, mark):
    with open(path, "rb") as stream:
        return mark.encode() in stream.read()
def sees(mark):
    return any(mark in open(f"/proc/{p}/cmdline").read() for p in os.listdir("/proc") if p.isdigit()
               if p != str(os.getpid()))
def gateway(port):
    # Every address that a bridge of the networks that are seen here could have.
    for line in open("/proc/net/fib_trie").read().split():
        parts = line.split(".")
        if len(parts) == 4 and parts[3] == "0" and parts[0] not in ("127", "0"):
            for last in ("1", "254"):
                try:
                    if tcp(".".join([*parts[:3], last]), port):
                        return True
                except OSError:
                    pass
    return False
def attempt(call):
    try:
        return bool(globals()[call[0]](*call[1:]))
    except OSError:
        return False
calls = json.loads(CALLS)
with ThreadPoolExecutor(8) as pool:
    answer = dict(zip(calls, pool.map(attempt, calls.values())))
out = os.environ.get("OUTPUT_FILE")
print(json.dumps(answer), file=open(out, "w") if out else None)
"""
