"""What every runtime promises, asked of each in the same words."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from dataclasses import replace

import pytest

from vantage6.node.runtimes.base import Handle, ImageMissing, RunMissing, RunRefused, Runtime

from .conftest import IMAGE, LIMITS, Database, Kit

SLEEP = "import time; time.sleep(60)"


async def test_is_a_runtime(kit: Kit) -> None:
    assert isinstance(kit.runtime, Runtime)
    assert kit.runtime.name == kit.kind


@pytest.mark.parametrize("code", [0, 3])
async def test_says_how_it_ended(kit: Kit, code: int) -> None:
    ended = await kit.run(f"print('said'); raise SystemExit({code})")
    assert (ended.code, ended.oom, ended.timed_out, ended.log_tail) == (code, False, False, b"said\n")


async def test_death_by_signal_is_128_and_its_number(kit: Kit) -> None:
    ended = await kit.run("import os, subprocess, sys; sys.exit(128 + 15)")
    assert ended.code == 143


@pytest.mark.row("M54")
async def test_the_algorithms_contract(kit: Kit) -> None:
    table = kit.folder / "table.csv"
    table.write_text("a\n1\n")
    table.chmod(0o644)
    files = kit.prepare(b"json.{}", "the-token", {"default": Database(str(table)), "sql": Database("postgresql://x/y")})
    seen = await kit.answer(
        """
        import json, os
        e = os.environ
        read = lambda name: open(e[name]).read()
        names = ["INPUT_FILE", "TOKEN_FILE", "DATABASE_URI", "DEFAULT_DATABASE_URI"]
        seen = {name: read(name) for name in names}
        seen |= {"sql": e["SQL_DATABASE_URI"], "proxy": e["PROXY_ADDRESS"], "web": e["PROXY_HTTP_ADDRESS"]}
        seen |= {"temporary": e["TEMPORARY_FOLDER"]}
        seen["uid"] = [os.getuid(), os.getgid()]
        with open(e["OUTPUT_FILE"], "w") as stream:
            json.dump(seen, stream)
        """,
        files,
    )
    assert seen == {
        "INPUT_FILE": "json.{}", "TOKEN_FILE": "the-token", "DATABASE_URI": "a\n1\n", "DEFAULT_DATABASE_URI": "a\n1\n",
        "sql": "postgresql://x/y", "proxy": "unix:/run/vantage6/proxy.sock", "web": "unix:/run/vantage6/http.sock",
        "temporary": "/mnt/tmp",
        "uid": [65534, 65534],
    }  # fmt: skip


async def test_environment_of_the_node_stays_out(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SECRET", "s3cret")
    seen = await kit.answer(
        "import json, os; json.dump([dict(os.environ), open('/proc/1/environ').read() if os.access('/proc/1/environ', "
        "os.R_OK) else ''], open(os.environ['OUTPUT_FILE'], 'w'))"
    )
    assert "s3cret" not in json.dumps(seen)


@pytest.mark.row("M48")
async def test_temporary_folder_is_shared_within_a_run_id(kit: Kit) -> None:
    write = "open('/mnt/tmp/left', 'w').write('by the first')"
    read = "import json, os; json.dump(os.listdir('/mnt/tmp'), open('/mnt/data/output', 'w'))"
    assert (await kit.run(write, kit.prepare(run_id=7))).code == 0
    assert await kit.answer(read, kit.prepare(run_id=7)) == ["left"]
    assert await kit.answer(read, kit.prepare(run_id=8)) == []


async def test_database_by_group(kit: Kit) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    table = kit.folder / "closed.csv"
    table.write_text("secret")
    os.chown(table, 0, 54321)
    table.chmod(0o640)
    files = kit.prepare(databases={"default": Database(str(table))})
    assert (await kit.run("import os; open(os.environ['DATABASE_URI']).read()", files)).code == 0


async def test_socket_of_the_proxy(kit: Kit) -> None:
    files = kit.prepare()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(files.socket_path))
        files.socket_path.chmod(0o666)
        listener.listen()
        handle = await kit.start(
            "import socket, os; s = socket.socket(socket.AF_UNIX); "
            "s.connect(os.environ['PROXY_ADDRESS'].removeprefix('unix:')); s.sendall(b'hello')",
            files,
        )
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        connection, _ = await asyncio.wait_for(loop.sock_accept(listener), 20)
        with connection:
            assert await loop.sock_recv(connection, 10) == b"hello"
    assert (await kit.runtime.wait(handle)).code == 0


async def test_logs_follow(kit: Kit) -> None:
    handle = await kit.start(
        "import os, sys, time\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\n"
        "while not os.path.exists('/mnt/tmp/go'): time.sleep(0.02)\nprint('three')"
    )
    seen = b""
    async with asyncio.timeout(30):
        async for chunk in kit.runtime.logs(handle):
            seen += chunk
            if seen.count(b"\n") == 2:  # Said while it runs: it goes on only when they have arrived.
                (kit.workspace.root / "tmp" / "1" / "go").touch()
    assert sorted(seen.split()) == [b"one", b"three", b"two"]


async def test_leaving_a_log_early(kit: Kit) -> None:
    handle = await kit.start("while True: print('x' * 1000)", seconds=20)
    logs = kit.runtime.logs(handle)
    assert await anext(logs)
    await logs.aclose()  # type: ignore[attr-defined]
    await kit.runtime.stop(handle, 0)


async def test_a_long_log_is_capped(kit: Kit) -> None:
    ended = await kit.run("for i in range(20000): print(i)")
    assert ended.code == 0
    assert len(ended.log_tail) <= LIMITS.log_bytes
    assert ended.log_tail.endswith(b"19998\n19999\n")


async def test_starting_twice_starts_once(kit: Kit) -> None:
    files = kit.prepare(run_id=3)
    spec = kit.spec("open('/mnt/tmp/count', 'a').write('x')", files)
    first, second = await asyncio.gather(kit.runtime.start(spec), kit.runtime.start(spec))
    assert first == second
    await kit.runtime.wait(first)
    assert await kit.runtime.start(spec) == first  # Neither does one that has ended run again.
    assert (await kit.runtime.wait(first)).code == 0
    assert (files.temporary / "count").read_text() == "x"


@pytest.mark.attack("X08")
async def test_stop_asks(kit: Kit) -> None:
    handle = await kit.start(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nprint('up', flush=True)\n"
        "time.sleep(60)"
    )
    await anext(kit.runtime.logs(handle))
    await kit.runtime.stop(handle, 20)
    assert (await kit.runtime.wait(handle)).code == 7
    await kit.runtime.stop(handle, 1)  # Nothing happens.


async def test_stop_insists(kit: Kit) -> None:
    handle = await kit.start(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    await anext(kit.runtime.logs(handle))
    started = time.monotonic()
    await kit.runtime.stop(handle, 1)
    ended = await kit.runtime.wait(handle)
    assert (ended.code, ended.timed_out) == (137, False)
    assert time.monotonic() - started < 15


async def test_wall_clock_limit(kit: Kit) -> None:
    handle = await kit.start(SLEEP, seconds=1)
    ended = await kit.runtime.wait(handle)
    assert (ended.code, ended.timed_out) == (137, True)
    assert (await kit.runtime.wait(handle)).timed_out


async def test_a_cancelled_wait_leaves_the_run(kit: Kit) -> None:
    handle = await kit.start("import time; time.sleep(1.5); raise SystemExit(4)")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(kit.runtime.wait(handle), 0.3)
    both = await asyncio.gather(kit.runtime.wait(handle), kit.runtime.wait(handle))
    assert [ended.code for ended in both] == [4, 4]


async def test_recover_finds_all_after_a_restart(kit: Kit) -> None:
    running, over = kit.spec("import time; time.sleep(2); raise SystemExit(5)"), kit.spec("raise SystemExit(6)")
    started = {spec.key: await kit.runtime.start(spec) for spec in (running, over)}
    await kit.runtime.wait(started[over.key])
    runtime = await kit.restarted()
    found = await runtime.recover()
    assert found == started
    assert (await runtime.wait(found[running.key])).code == 5
    assert (await runtime.wait(found[over.key])).code == 6


async def test_a_limit_goes_on_over_a_restart(kit: Kit) -> None:
    handle = await kit.start(SLEEP, seconds=1)
    runtime = await kit.restarted()
    await asyncio.sleep(1.2)
    assert (await runtime.wait(handle)).timed_out


@pytest.mark.row("M47")
async def test_recover_tells_of_this_node_only(kit: Kit) -> None:
    other = Kit(kit.kind, kit.folder, node_name=f"{kit.node_name}-other")
    handle = await other.start(SLEEP)
    assert await kit.runtime.recover() == {}
    await other.runtime.remove(handle)
    await other.runtime.close()


async def test_missing_image(kit: Kit) -> None:
    for image in ("vantage6/no-such-image:dev", "..", "../../etc"):
        with pytest.raises((ImageMissing, RunRefused)):
            await kit.runtime.start(replace(kit.spec("pass"), image=image))
    with pytest.raises(ImageMissing):
        await kit.runtime.pull("vantage6/no-such-image:dev")
    assert await kit.runtime.recover() == {}


async def test_pull_of_what_is_here(kit: Kit) -> None:
    parts: list[float] = []
    assert (await kit.runtime.pull(IMAGE, parts.append)).startswith("sha256:")
    await asyncio.sleep(0)
    assert parts[-1] == 1.0


@pytest.mark.attack("GHSA-47w6-gwp4-w6vc")
async def test_an_image_that_was_replaced_is_not_started(kit: Kit) -> None:
    """What the policy allowed is what runs, also when the name has come to mean something else since."""
    other = replace(kit.spec("pass"), digest=f"sha256:{'0' * 64}")
    with pytest.raises(ImageMissing):
        await kit.runtime.start(other)
    assert await kit.runtime.recover() == {}
    handle = await kit.runtime.start(replace(other, digest=await kit.runtime.pull(IMAGE)))
    if kit.kind == "sandbox":  # One that was started is found, whatever its image is by now; the engine looks first.
        assert await kit.runtime.start(other) == handle
    assert (await kit.runtime.wait(handle)).code == 0


async def test_memory_limit(kit: Kit) -> None:
    ended = await kit.run("block = b'x' * (64 << 20); print('fits', flush=True); more = b'y' * (512 << 20)")
    assert ended.code != 0
    assert ended.log_tail.startswith(b"fits")
    assert ended.oom == (kit.kind == "docker")  # Without a control group it is the program that is told.


@pytest.mark.attack("X08")
async def test_fork_bomb(kit: Kit) -> None:
    """At the limit of processes a program may hang instead of failing: the wall clock ends it."""
    ended = await kit.run(
        "import os, time\ncount = 1\ntry:\n  while os.fork(): count += 1\n  time.sleep(60)\nexcept OSError:\n"
        "  print(count, flush=True)\n  time.sleep(60)",
        seconds=3,
    )
    assert ended.timed_out
    assert 8 < int(ended.log_tail) <= LIMITS.pids


@pytest.mark.attack("X08")
async def test_disk_is_limited(kit: Kit) -> None:
    files = kit.prepare()
    ended = await kit.run(
        "def fill(name):\n  try:\n    with open(name, 'wb') as f:\n      for _ in range(64): f.write(bytes(1 << 20))\n"
        "  except OSError as e: print(name, e.errno)\n  else: print(name, 'filled')\n"
        "fill('/mnt/data/output'); fill('/tmp/x'); fill('/mnt/tmp/x')",
        files,
    )
    assert b"filled" not in ended.log_tail
    assert files.output_path.stat().st_size <= LIMITS.output_bytes


async def test_nothing_is_left_of_what_it_started(kit: Kit) -> None:
    """A program that goes into the background of its run ends with it."""
    files = kit.prepare(run_id=5)
    await kit.run(
        "import os, sys, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    for i in range(600):\n"
        "      open('/mnt/tmp/beat', 'w').write(str(i))\n      time.sleep(0.05)\n  os._exit(0)\n"
        "while not os.path.exists('/mnt/tmp/beat'): time.sleep(0.01)",
        files,
    )
    await asyncio.sleep(0.2)
    before = (files.temporary / "beat").stat().st_mtime_ns
    await asyncio.sleep(0.3)
    assert (files.temporary / "beat").stat().st_mtime_ns == before


async def test_remove_ends_and_forgets(kit: Kit) -> None:
    handle = await kit.start(SLEEP)
    await kit.runtime.remove(handle)
    await kit.runtime.remove(handle)
    assert await kit.runtime.recover() == {}
    with pytest.raises(RunMissing):
        await kit.runtime.wait(handle)
    with pytest.raises(RunMissing):
        await kit.runtime.wait(Handle("0" * 64))


async def test_a_missing_file_is_refused(kit: Kit) -> None:
    files = kit.prepare()
    files.token_path.unlink()
    with pytest.raises(RunRefused) as refused:
        await kit.runtime.start(kit.spec("pass", files))
    assert str(kit.folder) not in str(refused.value)  # The server is not told of this machine's folders.
    assert await kit.runtime.recover() == {}


async def test_many_at_once(kit: Kit) -> None:
    ended = await asyncio.gather(*(kit.run(f"raise SystemExit({number})") for number in range(20)))
    assert [one.code for one in ended] == list(range(20))
