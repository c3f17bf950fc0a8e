"""How a run's failure is told: what is written to standard error leaves the site, so it names no values."""

from __future__ import annotations

import traceback
from pathlib import Path

from vantage6.common.errors import SerializationError, Vantage6Error

STAYS = " (its text stays at the site)"

_HERE = Path(__file__).parent


def describe(error: BaseException) -> str:
    """The text of what the proxy answered, and of everything else only its kind and place."""
    if isinstance(error, Vantage6Error) and not isinstance(error, SerializationError):
        return f"{error.reason}: {error.message}"
    return harmless(error)


def told(error: BaseException) -> str:
    """Describes an exception with its text, for sites that let it out."""
    return f"{harmless(error).removesuffix(STAYS)}: {error}"


def harmless(error: BaseException) -> str:
    """Describes an exception by its kind and its place; its text may hold values from the data and is left out."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent != _HERE]
    places = [f"{_file(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames[:8])]
    return f"{type(error).__name__} at {' < '.join(places) or 'an unknown place'}{STAYS}"


def _file(name: str) -> str:
    path = Path(name)
    return f"{path.parent.name}/{path.name}" if path.name == "__init__.py" else path.name
