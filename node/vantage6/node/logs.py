"""Log lines of the node: facts as fields, one line each, nothing in them that a terminal obeys."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logs(log_format: str, *, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    # The runtimes and their libraries use the standard library's logging.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(message)s")
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _one_line(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Takes the teeth out of names from elsewhere: no line breaks or terminal escapes in a field."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = "".join(char if char.isprintable() else "?" for char in value)
    return event
