"""How a node is started: what the options of `vnode start` said. It is kept with what runs, for `vnode restart`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vantage6.node.dockerized import DEFAULT_IMAGE, DEVELOPMENT_IMAGE


@dataclass(frozen=True)
class Way:
    """`image` empty: the usual one; `develop` is the clone whose code runs; `local`: without a container."""

    image: str = ""
    local: bool = False
    develop: str = ""
    log_format: str = "console"
    verbose: bool = False

    @property
    def source(self) -> Path | None:
        return Path(self.develop) if self.develop else None

    @property
    def from_image(self) -> str:
        return self.image or (DEVELOPMENT_IMAGE if self.develop else DEFAULT_IMAGE)

    @property
    def flags(self) -> list[str]:
        """For the process that is the node."""
        return ["--log-format", self.log_format, *(["--verbose"] if self.verbose else [])]

    def changed(self, **given: object) -> Way:
        """With what was said anew; None is for what was not."""
        return replace(self, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]

    def kept(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> Way:
        """As the facts of a node that runs have it; the usual way where they do not say."""
        found = (facts or {}).get("way") or {}
        if isinstance(found, str):
            try:
                found = json.loads(found)
            except ValueError:
                found = {}
        if not isinstance(found, Mapping):
            found = {}
        usual = asdict(cls())
        return cls().changed(**{key: value for key, value in found.items() if type(value) is type(usual.get(key))})
