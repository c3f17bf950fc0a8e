"""Log lines of the node: facts as fields, one line each, nothing in them that a terminal obeys."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import structlog

from vantage6.common.background import rotate


class _Both:
    """Standard error, and a file beside it: the log of a container goes when the container goes."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rotate(file)
        self._file = file.open("a", encoding="utf-8")

    def write(self, text: str) -> int:
        with suppress(OSError):  # A full disk must not end the node; what it says is still heard.
            self._file.write(text)
        return sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()
        sys.stderr.flush()


def set_up_logs(log_format: str, *, verbose: bool, file: Path | None = None) -> None:
    """To standard error, and to `file` as well."""
    stream = cast("TextIO", _Both(file)) if file is not None else sys.stderr
    level = logging.DEBUG if verbose else logging.INFO
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    # The runtimes and their libraries use the standard library's logging.
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(asctime)s [%(levelname)s] %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


def _one_line(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Takes the teeth out of names from elsewhere: no line breaks or terminal escapes in a field."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = "".join(char if char.isprintable() else "?" for char in value)
    return event
