"""The live table of a task that is waited for: one line per organization. Silent where nobody looks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from vantage6.client._models import ResultState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from vantage6.client._view import Site, View

_COLOURS = {
    ResultState.COMPLETED: "green",
    ResultState.FAILED: "red",
    ResultState.REFUSED: "red",
    ResultState.LOST: "red",
    ResultState.CANCELLED: "yellow",
    ResultState.RUNNING: "cyan",
    ResultState.PULLING: "cyan",
}

NAMED = 5
"""So many of those who are missing are named."""


class Display:
    """Shows a view while it is entered, on a terminal or in a notebook; to standard error, so output stays clean."""

    def __init__(self, view: View, *, shown: bool, console: Console | None = None) -> None:
        # Programs that want colours in their logs make rich believe in a terminal; a log wants no display.
        terminal = console.is_terminal if console else sys.stderr.isatty()
        console = console or Console(stderr=True)
        self._view = view
        self._live: Live | None = None
        if shown and ((terminal and console.is_terminal) or console.is_jupyter):
            # The clock ticks between events, so the table is drawn anew by itself.
            self._live = Live(console=console, get_renderable=lambda: table(view), refresh_per_second=4)

    @property
    def shown(self) -> bool:
        return self._live is not None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def table(view: View, clock: Callable[[], float] = time.monotonic) -> Table:
    task = view.task
    title = f"task {task.id}" + (f" {task.name}" if task.name else "") + f" · {task.state}"
    shown = Table(title=escape(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    for site in view.sites.values():
        colour = _COLOURS.get(site.state, "dim")
        shown.add_row(escape(site.name), f"[{colour}]{escape(describe(site, clock()))}[/]")
    for site in view.helpers.values():
        done = f", {site.rounds} done" if site.rounds and not site.state.final else ""
        done = f"{site.rounds} done" if site.state is ResultState.COMPLETED else describe(site, clock()) + done
        shown.add_row(f"  ↳ {escape(site.name)}", f"[dim]{escape(done)}[/]")
    shown.caption = escape(missing(view)) if view.connected else "the server cannot be reached; trying again"
    shown.caption_justify = "left"
    return shown


def missing(view: View) -> str:
    """Who has not delivered yet, once somebody has."""
    late = [site.name for site in view.sites.values() if not site.state.final]
    if not late or len(late) == len(view.sites):
        return ""
    done = len(view.sites) - len(late)
    shown = ", ".join(late[:NAMED]) + (f" and {len(late) - NAMED} more" if len(late) > NAMED else "")
    return f"{done} of {len(view.sites)} done; missing: {shown}"


def describe(site: Site, now: float) -> str:
    """One organization's line: what it does, for how long, or why it does not."""
    text = _words(site, now)
    if not site.online and not site.state.final:
        return f"{text}, its node is offline" if text != "waiting" else "waiting: its node is offline"
    return text


def _words(site: Site, now: float) -> str:
    match site.state:
        case ResultState.PENDING | ResultState.ASSIGNED:
            return "waiting"
        case ResultState.PULLING:
            return f"pulling {site.pulling:.0%}" if site.pulling else "pulling"
        case ResultState.RUNNING:
            done = f", {site.running:.0%}" if site.running is not None else ""
            text = f": {site.text}" if site.text else ""
            return f"running {_clock(now - (site.since or now))}{done}{text}"
        case ResultState.COMPLETED:
            took = f" in {_clock((site.until or now) - site.since)}" if site.since is not None else ""
            return f"done{took}"
        case _:
            return " ".join(part for part in (f"{site.state}:", site.reason, site.message) if part).rstrip(":")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
