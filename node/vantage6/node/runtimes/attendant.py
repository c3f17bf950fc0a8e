"""The program that looks into folders which a run closed to the node (mode 0700): as the run's own user.

Started as text (`python3 -I -c`) in a container that has nothing but the folder (docker_attendant.py). Says the bytes
below it; more than `enough` also where it cannot look itself. With `open`, everybody may then remove what is there.
"""

from __future__ import annotations

import os
import sys


def look(top: str, enough: int, *, opening: bool = False) -> int:
    """Bytes on the disk below a folder; follows no link."""
    total, waiting = 0, [top]
    while waiting and (opening or total <= enough):
        folder = waiting.pop()
        try:
            mode = os.lstat(folder).st_mode & 0o777
            wanted = mode | (0o777 if opening else 0o500)
            if mode != wanted and folder != top:
                os.chmod(folder, wanted)  # noqa: PTH101 - nothing is imported that is not needed
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
        except (FileNotFoundError, NotADirectoryError):
            continue  # Gone meanwhile.
        except OSError:
            total = max(total, enough + 1)
    return total


if __name__ == "__main__":
    print(look(sys.argv[1], int(sys.argv[2]), opening=sys.argv[3] == "open"))
