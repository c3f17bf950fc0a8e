"""Counts and removes what is below a folder, with memory and descriptors that do not depend on who built it.

The node does both itself (disk.py). What runs closed to it, by mode or access list, it leaves to this file as a program
(`python3 -I -c`, docker_attendant.py) in a container that has nothing but the folder: as the runs' own user, who owns
all that they made. Folders are opened from the one above and never by a path: no path is too long, and a link put in
the place of a folder leads nowhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import suppress

ENTRIES = 500_000
"""So many in one folder are too many to look at again and again."""
DEEPEST = 64
"""Folders in one another that are looked into: each of them keeps two descriptors open."""
Entries = Generator["os.DirEntry[str]", None, None]
_GONE = (FileNotFoundError, NotADirectoryError)


class Folder:
    """An open one. It gets the rights `wanted` first, where this user may give them."""

    def __init__(self, name: str, above: int | None = None, wanted: int = 0) -> None:
        flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if not wanted:
            self.descriptor = os.open(name, os.O_RDONLY | flags, dir_fd=above)
            return
        handle = os.open(name, os.O_PATH | flags, dir_fd=above)
        try:
            mode = os.fstat(handle).st_mode & 0o777
            if mode & wanted != wanted:
                with suppress(PermissionError):  # It may be open to this user all the same.
                    os.chmod(f"/proc/self/fd/{handle}", mode | wanted)  # noqa: PTH101 - the folder that is open
            self.descriptor = os.open(".", os.O_RDONLY | flags, dir_fd=handle)
        finally:
            os.close(handle)

    def entries(self) -> Entries:
        """One after another, as the kernel gives them: never all in memory."""
        with os.scandir(self.descriptor) as found:
            yield from found

    def close(self) -> None:
        os.close(self.descriptor)


class Count:
    """Of what is below a folder: `bytes` on the disk, `entries`; `closed` where a part could not be looked into."""

    def __init__(self, enough: int | None, most: int | None, *, deepest: int = DEEPEST, wanted: int = 0) -> None:
        self._enough, self._most, self._deepest, self._wanted = enough, most, deepest, wanted
        self.bytes = self.entries = 0
        self.closed = False

    @property
    def many(self) -> bool:
        """There are more than were to be looked at."""
        return self._most is not None and self.entries > self._most

    @property
    def _over(self) -> bool:
        return self.many or (self._enough is not None and self.bytes > self._enough)

    def walk(self, top: str) -> None:
        """Counts until all is seen, or enough; follows no link; files may go meanwhile."""
        way: list[tuple[Folder, Entries]] = []
        try:
            self._enter(way, top)
            while way and not self._over:
                folder, entries = way[-1]
                if (entry := next(entries, None)) is None:
                    way.pop()
                    folder.close()
                else:
                    self._see(way, entry)
        finally:
            for folder, entries in reversed(way):
                entries.close()
                folder.close()

    def _see(self, way: list[tuple[Folder, Entries]], entry: os.DirEntry[str]) -> None:
        try:
            # Blocks, not size: a file with holes takes no room. An entry itself does, so many empty ones count.
            self.bytes += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
            self.entries += 1
            below = entry.is_dir(follow_symlinks=False)
        except _GONE:
            return
        except OSError:
            self.closed = True
            return
        if below:
            self._enter(way, entry.name)

    def _enter(self, way: list[tuple[Folder, Entries]], name: str) -> None:
        if len(way) >= self._deepest:
            self.closed = True
            return
        try:
            folder = Folder(name, way[-1][0].descriptor, self._wanted) if way else Folder(name)
        except _GONE:
            return
        except OSError:  # Closed to this user.
            self.closed = True
            return
        way.append((folder, folder.entries()))


class Emptying:
    """Removes what is in a folder, however deep and wide: folders are moved up before they are looked into."""

    def __init__(self) -> None:
        self._done = 0
        self._failed: OSError | None = None

    def empty(self, top: str) -> None:
        """Goes on past what cannot be removed; raises an OSError for it when all else is gone."""
        folder = Folder(top, wanted=0o700)
        try:
            self._done = 1
            while self._done:
                self._done, self._failed = 0, None
                for entry in folder.entries():
                    self._try(self._remove, entry, folder)
        finally:
            folder.close()
        if self._failed is not None:
            raise self._failed

    def _try(self, step: Callable[..., None], *given: object) -> None:
        try:
            step(*given)
            self._done += 1
        except _GONE:
            return
        except OSError as error:  # What this user is not allowed says more than that its folder is not empty.
            if self._failed is None or isinstance(error, PermissionError):
                self._failed = error

    def _remove(self, entry: os.DirEntry[str], top: Folder) -> None:
        if _dropped(entry, top):
            return
        folder = Folder(entry.name, top.descriptor, 0o700)
        try:
            for each in folder.entries():
                self._try(_remove_or_lift, each, folder, top)
        finally:
            folder.close()
        os.rmdir(entry.name, dir_fd=top.descriptor)


def _remove_or_lift(entry: os.DirEntry[str], folder: Folder, top: Folder) -> None:
    if _dropped(entry, folder):
        return
    # Who moves a folder must have the right to write in it. No name that its maker could have taken.
    Folder(entry.name, folder.descriptor, 0o700).close()
    os.rename(entry.name, os.urandom(16).hex(), src_dir_fd=folder.descriptor, dst_dir_fd=top.descriptor)


def _dropped(entry: os.DirEntry[str], folder: Folder) -> bool:
    """Removes anything but a folder that has something in it."""
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.name, dir_fd=folder.descriptor)
        return True
    try:
        os.rmdir(entry.name, dir_fd=folder.descriptor)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[2] == "empty":
        Emptying().empty(sys.argv[1])
        print(0)
    else:
        _told = Count(int(sys.argv[2]), ENTRIES, deepest=400, wanted=0o500)
        _told.walk(sys.argv[1])
        print(max(_told.bytes, int(sys.argv[2]) + 1) if _told.closed or _told.many else _told.bytes)
