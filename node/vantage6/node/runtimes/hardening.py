"""How hard a run's container is, as the site sets it. The defaults are the hardest; what is weaker says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, field_validator

from vantage6.node.runtimes.base import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator

UNPRIVILEGED = f"{NOBODY}:{NOBODY}"
_USER = re.compile(r"\d{1,10}:\d{1,10}")
_GPUS = re.compile(r"|all|[1-9]\d?|\d+(,\d+)+|[A-Za-z][A-Za-z0-9-]*(,[A-Za-z][A-Za-z0-9-]*)*")


class Hardening(BaseModel):
    """`hardening:` of the node's configuration; the node's log and `vnode list` name every weakened setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    user: str = UNPRIVILEGED
    """User and group that algorithms run as, in numbers."""
    read_only: bool = True
    """Whether the file system of a run's image is read-only."""
    no_new_privileges: bool = True
    """Whether programs in the image can gain no rights, such as by setuid."""
    capabilities: tuple[str, ...] = ()
    """Linux capabilities that a run keeps, such as NET_RAW; none unless given."""
    seccomp: str = ""
    """A file with a profile in Docker's format; empty: the engine's default; `unconfined`: none."""
    oci_runtime: str = ""
    """Name of the OCI runtime, such as `runsc` (gVisor); empty: the engine's default."""
    gpus: str = ""
    """`all`, a number, or the devices' ids with commas between; empty: none."""

    @field_validator("user")
    @classmethod
    def _numbers(cls, value: str) -> str:
        if not _USER.fullmatch(value):
            raise ValueError("write user and group as numbers, such as '65534:65534'")
        return value

    @field_validator("gpus", mode="before")
    @classmethod
    def _devices(cls, value: object) -> str:
        text = str(value)
        if not _GPUS.fullmatch(text):
            raise ValueError("write 'all', a number of devices, or their ids with commas between")
        return text

    @property
    def profile(self) -> Path | None:
        """The file with the site's own seccomp profile, if there is one."""
        return Path(self.seccomp) if self.seccomp not in ("", "unconfined") else None

    def in_folder(self, folder: Path) -> Hardening:
        """With the profile's path relative to the configuration's folder."""
        own = self.profile
        return self.model_copy(update={"seccomp": str(folder / own.expanduser())}) if own else self

    def weaknesses(self) -> list[str]:
        """What is weaker than the default, in words; empty for a site that left all as it was."""
        return list(self._weaknesses())

    def _weaknesses(self) -> Iterator[str]:
        if self.user.split(":")[0] == "0":
            yield "hardening.user: algorithms run as root of their container"
        elif self.user != UNPRIVILEGED:
            yield f"hardening.user: algorithms run as user {self.user}, which may own files here"
        if not self.read_only:
            yield "hardening.read_only: algorithms can change their container's file system, without a limit of size"
        if not self.no_new_privileges:
            yield "hardening.no_new_privileges: programs in the image may gain rights"
        if self.capabilities:
            yield f"hardening.capabilities: algorithms have {', '.join(self.capabilities)}"
        if self.seccomp == "unconfined":
            yield "hardening.seccomp: algorithms may make every system call"
        elif self.seccomp:
            yield "hardening.seccomp: a profile of the site's own decides on system calls"
        if self.oci_runtime not in ("", "runc", "runsc"):
            yield f"hardening.oci_runtime: {self.oci_runtime} keeps algorithms in, by its own rules"
        if self.gpus:
            yield f"hardening.gpus: algorithms use GPUs ({self.gpus}), whose memory may hold what an earlier run left"

    def security_options(self) -> list[str]:
        """For the engine. Without a word about seccomp its default profile applies."""
        options = ["no-new-privileges:true"] if self.no_new_privileges else []
        if self.seccomp == "unconfined":
            options.append("seccomp=unconfined")
        elif self.seccomp:
            # The API takes the profile itself, not a file's name.
            with open(self.seccomp, encoding="utf-8") as stream:  # noqa: PTH123 - a name from the configuration
                options.append(f"seccomp={json.dumps(json.load(stream))}")
        return options
