"""How a run ended, and what the researcher is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from vantage6.common import exits
from vantage6.common.errors import EnvelopeBroken, KeyChanged, KeyMissing, KeyUnknown, NotSealed, Vantage6Error
from vantage6.node import states
from vantage6.node.databases import DatabaseUnknown
from vantage6.node.policy import Refused
from vantage6.node.room import is_full
from vantage6.node.runtimes.base import Exit, ImageMissing, ImageUnreachable, RunMissing, RuntimeUnavailable
from vantage6.node.states import State

_REFUSALS = (NotSealed, KeyChanged, KeyMissing, KeyUnknown, DatabaseUnknown)
"""The site will not, as opposed to: it tried and failed."""


_HINTS = {
    ImageMissing: "Check the image's name, and that the site can reach its registry",
    ImageUnreachable: "The site cannot reach its registry now, or the registry fails",
}
_INFRASTRUCTURE = frozenset({RuntimeUnavailable.reason, ImageUnreachable.reason, "DISK_FULL"})


@dataclass(frozen=True)
class Outcome:
    """A final state with its reason; output and log are still plain, the output in the run's file."""

    state: State
    reason: str = ""
    message: str = ""
    output: BinaryIO | None = None
    log: bytes = b""


def of_error(error: Exception, result_id: int) -> Outcome:
    """The outcome of a run whose surroundings failed; unexpected errors tell the server nothing of the node."""
    if isinstance(error, Refused):
        return Outcome(states.REFUSED, error.rule, error.message)
    if isinstance(error, _REFUSALS):
        return Outcome(states.REFUSED, error.reason, error.message)
    if isinstance(error, EnvelopeBroken):
        message = f"the input does not open: {error.message}"
        return Outcome(states.FAILED, error.reason, message)
    if isinstance(error, Vantage6Error):
        hint = _HINTS.get(type(error))
        state = states.LOST if isinstance(error, RunMissing) else states.FAILED
        return Outcome(state, error.reason, f"{error.message}. {hint}" if hint else error.message)
    if isinstance(error, OSError) and is_full(error):
        return Outcome(states.FAILED, "DISK_FULL", "the site has no room left on its disk; it has to make some")
    message = f"the node met an error of its own; its administrator finds it in the node's log by result_id={result_id}"
    return Outcome(states.FAILED, "NODE_ERROR", message)


def of_exit(end: Exit, *, deadline_passed: bool, log: bytes) -> Outcome | None:
    """The outcome of a run that ended by itself or by a limit; None for a good end. `log` is what may leave of it."""
    if end.timed_out:
        if deadline_passed:
            return deadline()
        message = "the run was ended by the site's time limit; ask the site for a longer one or split the work"
        return Outcome(states.FAILED, "TIME_LIMIT", message, log=log)
    if end.oom:
        message = "the algorithm used more memory than the site allows; ask the site for more or use less"
        return Outcome(states.FAILED, "OUT_OF_MEMORY", message, log=log)
    if end.code != 0:
        where = "its last lines are in the result's log" if log else exits.KEPT
        return Outcome(states.FAILED, "ALGORITHM_FAILED", exits.told(end.code, where), log=log)
    return None


def says_nothing_of_the_algorithm(outcome: Outcome) -> bool:
    """Whether the site's surroundings failed; the server hands such a run out again, as the task's `retries` allow."""
    lost = outcome.state == states.LOST
    return lost or (outcome.state == states.FAILED and outcome.reason in _INFRASTRUCTURE)


def deadline() -> Outcome:
    return Outcome(states.FAILED, "DEADLINE", "the task's deadline passed before the run ended")
