"""Makes the virtual environment: `python3 tools/setup.py FOLDER`. Does nothing when it is there and up to date.

Everything that is installed is pinned with its hash in requirements/dev.txt. Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.txt"
OLDEST, NEWEST = (3, 11), (3, 13)


def stamp() -> str:
    """Changes when another environment is called for."""
    content = LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()
    return hashlib.sha256(content).hexdigest()


def check_python() -> None:
    have = sys.version_info[:2]
    if not OLDEST <= have <= NEWEST:
        sys.exit(
            f"setup: this is Python {have[0]}.{have[1]}; vantage6 needs 3.11 to 3.13.\n"
            "       Name one: make setup PYTHON=python3.11"
        )
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"setup: this Python lacks {' and '.join(missing)}, which makes virtual environments.\n"
            f"       Debian, Ubuntu: apt install python{have[0]}.{have[1]}-venv"
        )


def run(what: str, command: list[str]) -> None:
    """Quiet when it works; otherwise the whole story."""
    print(f"setup: {what} …", flush=True)
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}\nsetup: {what} failed; its words are above")


def works(python: Path) -> bool:
    """Whether the environment's Python can be run, and is one that we support; an upgrade may have taken it away."""
    code = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.run([python, "-c", code], check=False).returncode == 0
    except OSError:
        return False


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tools/setup.py FOLDER")
    folder = Path(sys.argv[1])
    mark, python = folder / ".stamp", folder / "bin" / "python"
    if mark.is_file() and mark.read_text() == stamp() and works(python):
        return
    began = time.monotonic()
    if not works(python):
        check_python()
        run(f"making {folder}", [sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    run(
        f"installing what {LOCK.relative_to(ROOT)} names (the first time takes a minute)",
        [*pip, "--require-hashes", "-r", str(LOCK)],
    )
    run("installing the project itself, editable", [*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    mark.write_text(stamp())
    print(f"setup: {folder} is ready after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
