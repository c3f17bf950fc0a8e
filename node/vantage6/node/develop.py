"""Runs `vnode` with the source at /source, and anew whenever a file of it changes: `vnode start --develop`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchfiles import Change

SOURCE = Path("/source")
PARTS = ("protos/gen", "common", "node")
"""Where a node's code is in a clone."""


def missing(source: Path) -> str:
    """What a folder lacks to be a clone of the project; empty when nothing."""
    needed = [f"{part}/vantage6" for part in PARTS]
    return ", ".join(part for part in needed if not (source / part).is_dir())


def own_source() -> Path | None:
    """The clone that this program runs from, if it does."""
    clone = Path(__file__).resolve().parents[3]
    return None if missing(clone) else clone


def main() -> None:
    from watchfiles import PythonFilter, run_process  # noqa: PLC0415 - only the image for development has it

    command = shlex.join([sys.executable, "-m", "vantage6.node.cli", *sys.argv[1:]])
    watched = [SOURCE / part for part in PARTS]
    run_process(*watched, target=command, target_type="command", watch_filter=PythonFilter(), callback=_say)


def _say(changes: set[tuple[Change, str]]) -> None:
    names = ", ".join(sorted(str(Path(path).relative_to(SOURCE)) for _, path in changes))
    print(f"changed: {names}; the node begins anew", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
