"""What is to go wrong at a site of a `MockNetwork`, and what its disclosure rules are shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from vantage6.common.errors import PermissionDenied, SerializationError
from vantage6.common.serialization import deserialize

if TYPE_CHECKING:
    from vantage6.api.v1.delivery_pb2 import Assignment


@dataclass(frozen=True)
class Fails:
    """The site's run ends without a result: out of memory, lost with its node, whatever `reason` says."""

    reason: str = "ALGORITHM_FAILED"
    message: str = "it failed on request"
    method: str = ""
    """Only runs of this method; of all, unless given."""


@dataclass(frozen=True)
class Refuses:
    """The site's policy forbids the run."""

    reason: str = "IMAGE_NOT_ALLOWED"
    message: str = "refused on request"
    method: str = ""


@dataclass(frozen=True)
class Slow:
    """The site answers after so many seconds: after quicker ones, or past a deadline. Nobody really waits."""

    seconds: float
    method: str = ""


Fault = Fails | Refuses | Slow


class Disclosure(Protocol):
    """The node's rules: `vantage6.node.disclosure.Disclosure([{"rule": "minimum_records", "minimum": 5}])`."""

    def check(self, released: Any, /) -> None:
        """Raises what may not leave."""


class OutputUnreadable(PermissionDenied):
    """No rule can vouch for what it cannot read."""


@dataclass(frozen=True)
class Leaving:
    """What is about to leave a site, as its rules see it."""

    run: Assignment
    data: bytes
    what: str
    method: str

    @cached_property
    def value(self) -> object:
        try:
            return deserialize(self.data)
        except SerializationError as error:
            message = f"the {self.what} is in no format that the site's rules of disclosure can read"
            raise OutputUnreadable(message) from error
