"""Nodes: registered by people, with an API key that is shown once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantage6.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from vantage6.server.domain.caller import Caller, NodeCaller, Operation, Resource
from vantage6.server.domain.checks import ONCE, Repeatable, check_text
from vantage6.server.domain.parties import Hooks, remove_nodes, visible_collaboration
from vantage6.server.domain.permissions import missing, require, require_user, require_view, visibility
from vantage6.server.domain.secrets import hash_token, new_secret
from vantage6.server.store.pages import Page, Slice
from vantage6.server.store.tables import Collaboration, Node

if TYPE_CHECKING:
    from vantage6.server.store.parties import NodeFilter
    from vantage6.server.store.sql import Database, Store

LONGEST_NAME = 256


@dataclass(frozen=True)
class NodeView:
    """`api_key` only where it has just been made: the table has its hash alone."""

    row: Node
    api_key: str = ""


@dataclass(frozen=True)
class CollaborationState:
    row: Collaboration
    nodes: list[Node]


class NodeRules:
    def __init__(self, database: Database, hooks: Hooks | None = None) -> None:
        self._database = database
        self._hooks = hooks or Hooks()

    async def get(self, caller: Caller, node_id: int) -> NodeView:
        async with self._database.read() as store:
            return NodeView(await visible_node(store, caller, node_id))

    async def find(self, caller: Caller, page: Page, wanted: NodeFilter) -> Slice[NodeView]:
        seen = visibility(caller, Resource.NODE)
        async with self._database.read() as store:
            rows = await store.parties.list_nodes(seen, page, wanted)
        return Slice([NodeView(row) for row in rows.items], rows.total)

    async def states(self, caller: Caller) -> list[CollaborationState]:
        """The collaborations that the caller may see, with the nodes of each that it may see."""
        async with self._database.read() as store:
            collaborations = await store.parties.list_collaborations(visibility(caller, Resource.COLLABORATION))
            nodes = await store.parties.list_nodes(visibility(caller, Resource.NODE))
        return [
            CollaborationState(row, [node for node in nodes.items if node.collaboration_id == row.id])
            for row in collaborations.items
        ]

    async def create(
        self, caller: Caller, collaboration_id: int, organization_id: int | None, name: str,
        repeatable: Repeatable = ONCE,
    ) -> NodeView:  # fmt: skip
        user = require_user(caller)
        owner = user.organization_id if organization_id is None else organization_id
        if owner is None:
            raise InvalidArgument("organization_id: is required, you belong to none.", field="organization_id")
        check_text("name", name, LONGEST_NAME)
        async with self._database.write() as store:
            collaboration = await visible_collaboration(store, caller, collaboration_id)
            # Who makes the key of another member's node could be that node: the collaboration's scope is not enough.
            require(user, Resource.NODE, Operation.CREATE, organization_id=owner)
            made = await repeatable.made_before(store, user)
            if made is not None:
                return NodeView(await visible_node(store, caller, made))
            row, api_key = await _new(store, collaboration, owner, name)
            await repeatable.remember(store, user, row.id)
        return NodeView(row, api_key)

    async def update(self, caller: Caller, node_id: int, name: str | None) -> NodeView:
        async with self._database.write() as store:
            row = await self._changeable(store, caller, node_id, Operation.EDIT)
            if name is not None and name != row.name:
                check_text("name", name, LONGEST_NAME, required=True)
                await _require_free_name(store, name)
                row.name = name
            await store.flush()
        return NodeView(row)

    async def delete(self, caller: Caller, node_id: int) -> None:
        async def work(store: Store) -> None:
            row = await self._changeable(store, caller, node_id, Operation.DELETE)
            await remove_nodes(store, self._hooks, [row])

        await self._database.transact(work)

    async def reset_api_key(self, caller: Caller, node_id: int) -> NodeView:
        """The old key and every session begun with it end at once."""
        api_key = new_secret()

        async def work(store: Store) -> Node:
            row = await self._changeable(store, caller, node_id, Operation.EDIT)
            require(caller, Resource.NODE, Operation.EDIT, organization_id=row.organization_id)
            row.api_key_hash = hash_token(api_key)
            await store.accounts.revoke_sessions(node_id=row.id)
            # In the table too, where a server process finds it that was not told.
            await store.parties.cut_off(row.id)
            store.after_commit(lambda: self._hooks.node_cut_off(row))
            return row

        return NodeView(await self._database.transact(work), api_key)

    async def _changeable(self, store: Store, caller: Caller, node_id: int, operation: Operation) -> Node:
        row = await visible_node(store, caller, node_id)
        require(
            caller, Resource.NODE, operation,
            organization_id=row.organization_id, collaboration_ids=[row.collaboration_id],
        )  # fmt: skip
        return row


async def visible_node(store: Store, caller: Caller, node_id: int) -> Node:
    row = await store.parties.node(node_id)
    if row is None:
        raise missing(Resource.NODE, node_id)
    require_view(
        caller, Resource.NODE, node_id,
        own=isinstance(caller, NodeCaller) and caller.id == row.id,
        organization_id=row.organization_id, collaboration_ids=[row.collaboration_id],
    )  # fmt: skip
    return row


async def _new(store: Store, collaboration: Collaboration, owner: int, name: str) -> tuple[Node, str]:
    organization = await store.parties.organization(owner)
    if organization is None:
        raise NotFound(f"organization_id: there is no organization {owner}.", field="organization_id")
    if not await store.parties.is_member(owner, collaboration.id):
        raise FailedPrecondition("organization_id: the organization is no member of the collaboration.")
    if await store.parties.node_of(owner, collaboration.id) is not None:
        raise AlreadyExists("The organization has a node in this collaboration already.")
    chosen = name or f"{organization.name} - {collaboration.name} Node"[:LONGEST_NAME]
    await _require_free_name(store, chosen)
    api_key = new_secret()
    row = Node(
        name=chosen,
        api_key_hash=hash_token(api_key),
        organization_id=owner,
        collaboration_id=collaboration.id,
    )
    return await store.parties.add_node(row), api_key


async def _require_free_name(store: Store, name: str) -> None:
    if await store.parties.node_by_name(name) is not None:
        raise AlreadyExists(f"name: the node name '{name}' is taken.", field="name")
