"""A log-in that outlives the program: tokens in a file that only its owner can read."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Login:
    """Tokens of one session at one server; `renew_at` is in seconds since 1970."""

    url: str
    access: str = dataclasses.field(repr=False)
    refresh: str = dataclasses.field(repr=False)
    renew_at: float
    user_id: int = 0
    username: str = ""
    organization_id: int | None = None
    organization_name: str = ""


class LoginFile:
    """Where the tokens lie; blocking. Programs that share it renew the session one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Login | None:
        """None if nobody is logged in, or the file is not one of ours."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return Login(**found)
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, login: Login) -> None:
        """Replaces the file as a whole; it is 0600 from the first byte on."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(login), file)
            os.replace(name, self.path)  # noqa: PTH105 - mkstemp gives a name
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108
            raise

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def lock(self) -> IO[bytes]:
        """Waits until no other program renews this session; closing what comes back lets the next one in."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self.path.with_name(f"{self.path.name}.lock").open("wb")
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - not on every system

            fcntl.flock(file, fcntl.LOCK_EX)
        return file
