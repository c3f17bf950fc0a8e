"""What a test does with a network, be it a mock one or a real one: run methods at its organizations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vantage6.algorithm.client import SiteResult


class Network(ABC):
    """Organizations that run the methods of one package."""

    @property
    @abstractmethod
    def organizations(self) -> tuple[int, ...]:
        """Their ids."""

    @abstractmethod
    def results(
        self,
        method: str,
        *args: object,
        organizations: Sequence[int] | None = None,
        databases: Sequence[str] | None = None,
        **kwargs: object,
    ) -> list[SiteResult]:
        """Runs a method at organizations (all, unless told which); quick ones come first."""

    def run(
        self,
        method: str,
        *args: object,
        organization: int | None = None,
        databases: Sequence[str] | None = None,
        **kwargs: object,
    ) -> object:
        """Runs a method at one organization (the first, unless told which); SubtaskError if it failed."""
        where = [organization or self.organizations[0]]
        return self.results(method, *args, organizations=where, databases=databases, **kwargs)[0].value
