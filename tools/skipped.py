"""Reads pytest's JUnit files and fails if a test was skipped for want of a part: `… PARTS FILE…`.

PARTS is a list such as `engine,envoy,postgres`. Every skip is printed, so that none goes unseen.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def skips(files: list[Path]) -> list[tuple[str, str]]:
    """Name and reason of each skipped test."""
    return [
        (f"{case.get('classname')}::{case.get('name')}", skipped.get("message") or "")
        for file in files
        for case in ET.parse(file).iter("testcase")  # noqa: S314 - pytest wrote it just now
        for skipped in case.iter("skipped")
    ]


def main() -> int:
    parts = re.compile(rf"\b({'|'.join(sys.argv[1].split(','))})\b", re.IGNORECASE)
    found = skips([Path(name) for name in sys.argv[2:]])
    for name, reason in found:
        print(f"skipped: {name}: {reason}")
    wanted = [name for name, reason in found if parts.search(reason)]
    print(f"{len(found)} tests skipped, {len(wanted)} of them for want of {sys.argv[1]}")
    return 1 if wanted else 0


if __name__ == "__main__":
    sys.exit(main())
