"""`page` and `per_page` of a request, and the `x-total-count` and `link` of the answer (RFC 8288)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode

import grpc

from vantage6.common.errors import InvalidArgument
from vantage6.server.store.pages import Page, Slice

LARGEST = 1_000
USUAL = 50
ORIGINAL_PATH = "x-envoy-original-path"

T = TypeVar("T")
M = TypeVar("M")
Context = grpc.aio.ServicerContext[Any, Any]


class Paged(Protocol):
    """The part that all list requests have in common."""

    page: int
    per_page: int

    def HasField(self, field_name: Any) -> bool: ...  # The generated classes say which names.


def page_of(request: Paged, *sorts: str) -> Page:
    """`sorts` are what the list can be sorted by, besides the id. Raises InvalidArgument, naming the field."""
    sort, descending = _order(request, ["id", *sorts])
    if not request.HasField("page") and not request.HasField("per_page"):
        return Page(descending=descending, sort=sort)
    number = request.page if request.HasField("page") else 1
    size = request.per_page if request.HasField("per_page") else USUAL
    if number < 1:
        raise InvalidArgument("page: pages are counted from 1.", field="page")
    if not 1 <= size <= LARGEST:
        raise InvalidArgument(f"per_page: must be between 1 and {LARGEST}.", field="per_page")
    return Page(number, size, descending, sort)


def _order(request: Any, known: list[str]) -> tuple[str, bool]:
    given: str = getattr(request, "sort", "") or "id"
    sort = given.removeprefix("-")
    if sort not in known:
        names = ", ".join(f"'{name}'" for name in known)
        raise InvalidArgument(f"sort: must be one of {names}, or one of them with '-' before it.", field="sort")
    return sort, given != sort


async def stream(context: Context, page: Page, found: Slice[T], convert: Callable[[T], M]) -> AsyncIterator[M]:
    """Sends the page's metadata, then the items."""
    await send_page_metadata(context, page, found.total)
    for item in found.items:
        yield convert(item)


async def send_page_metadata(context: Context, page: Page, total: int | None) -> None:
    if page.number is None or page.size is None or total is None:
        return
    sent = dict(context.invocation_metadata() or ())
    path = sent.get(ORIGINAL_PATH, "")
    link = link_header(path if isinstance(path, str) else "", page.number, page.size, total)
    await context.send_initial_metadata((("x-total-count", str(total)), ("link", link)))


def link_header(original: str, number: int, size: int, total: int) -> str:
    """The value of `Link`; without the original REST path, references that are relative to the caller's own."""
    path, _, query = original.partition("?")
    if not path.startswith("/"):
        path, query = "", ""
    # Encoded anew, so that nothing of the caller's query can break out of the header.
    rest = [(key, entry) for key, entry in parse_qsl(query) if key not in {"page", "per_page"}]
    last = max(1, -(-total // size))
    targets = {"first": 1, "prev": number - 1, "next": number + 1, "last": last}
    return ", ".join(
        f'<{path}?{urlencode([*rest, ("page", target), ("per_page", size)])}>; rel="{name}"'
        for name, target in targets.items()
        if 1 <= target <= last
    )
