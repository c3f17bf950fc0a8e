"""Long lists in portions, so that neither memory nor a transaction grows with the list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol, TypeVar

from vantage6.server.store.pages import Page

PORTION = 200


class HasId(Protocol):
    @property
    def id(self) -> int: ...


T_co = TypeVar("T_co", bound=HasId, covariant=True)
T = TypeVar("T", bound=HasId)
F_contra = TypeVar("F_contra", contravariant=True)


class Lister(Protocol[F_contra, T_co]):
    def __call__(
        self, wanted: F_contra, *, offset: int = 0, limit: int | None = None, descending: bool = False,
        after: int | None = None,
    ) -> Awaitable[Sequence[T_co]]: ...  # fmt: skip


async def in_portions(lister: Lister[F_contra, T], wanted: F_contra, page: Page) -> AsyncIterator[Sequence[T]]:
    """One page as one portion, or the whole list portion by portion."""
    if page.number is not None and page.size is not None:
        offset = (page.number - 1) * page.size
        yield await lister(wanted, offset=offset, limit=page.size, descending=page.descending)
        return
    after: int | None = None
    while True:
        rows = await lister(wanted, limit=PORTION, descending=page.descending, after=after)
        if rows:
            yield rows
        if len(rows) < PORTION:
            return
        after = rows[-1].id
