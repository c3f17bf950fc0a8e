"""Long lists in portions, so that neither memory nor a transaction grows with the list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from vantage6.server.store.pages import Page

PORTION = 200


T = TypeVar("T")
# Called as `find(wanted, offset=, limit=, descending=, after=)`.
Find = Callable[..., Awaitable[Sequence[T]]]


async def in_portions(find: Find[T], wanted: object, page: Page) -> AsyncIterator[Sequence[T]]:
    """One page as one portion, or the whole list portion by portion."""
    if page.number is not None and page.size is not None:
        offset = (page.number - 1) * page.size
        yield await find(wanted, offset=offset, limit=page.size, descending=page.descending)
        return
    after: int | None = None
    while True:
        rows = await find(wanted, limit=PORTION, descending=page.descending, after=after)
        if rows:
            yield rows
        if len(rows) < PORTION:
            return
        after = cast("Any", rows[-1]).id
