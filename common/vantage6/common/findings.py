"""One line of `vnode check` and `vserver check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fault = Literal["", "engine", "unreachable", "refused", "clock", "disk", "permission", "port", "schema", "config"]


@dataclass(frozen=True)
class Finding:
    """What was tested, how it is, and what to do; `kind` tells failures apart for the exit code."""

    what: str
    outcome: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    fix: str = ""
    kind: Fault = ""


def ok(what: str, detail: str) -> Finding:
    return Finding(what, "ok", detail)


def warning(what: str, detail: str, fix: str) -> Finding:
    return Finding(what, "warning", detail, fix)


def failed(what: str, detail: str, fix: str, kind: Fault = "") -> Finding:
    return Finding(what, "failed", detail, fix, kind)


def skipped(what: str, detail: str, fix: str = "") -> Finding:
    return Finding(what, "skipped", detail, fix)
