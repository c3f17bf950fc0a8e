"""Structured log lines: JSON where a program reads, colours where a person does."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logs(level: str) -> None:
    chosen = logging.getLevelNamesMapping()[level]
    logging.basicConfig(level=chosen, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    person = sys.stderr.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if person:
        # Plain: the richer traceback shows local variables, and with them passwords.
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        # JSON escapes newlines and terminal sequences, so that a name cannot forge a line (X15).
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(chosen),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
