"""The parent in a REST path: what lies beneath a thing that is not there is no empty list, as a filter's answer is."""

from __future__ import annotations

import re
from typing import Any

from vantage6.server.domain.caller import Resource, current_call
from vantage6.server.domain.nodes import visible_node
from vantage6.server.domain.parties import visible_collaboration, visible_organization
from vantage6.server.rpc.pages import ORIGINAL_PATH
from vantage6.server.store.sql import Store

_NESTED = re.compile(r"/api/(?P<parent>organization|collaboration|node)/(?P<id>-?[0-9]{1,10})/[a-z]+(?:\?.*)?")
_VISIBLE = {
    Resource.ORGANIZATION: visible_organization,
    Resource.COLLABORATION: visible_collaboration,
    Resource.NODE: visible_node,
}


async def require_parent(store: Store, context: Any) -> None:
    """Raises NotFound where the path names something that the caller may not see; gRPC has no paths."""
    call = current_call()
    path = dict(context.invocation_metadata() or ()).get(ORIGINAL_PATH) if call.rest else None
    nested = _NESTED.fullmatch(path) if isinstance(path, str) else None
    if nested is not None:
        await _VISIBLE[Resource(nested["parent"])](store, call.caller, int(nested["id"]))
