"""Organizations and collaborations: who may see, make, change and end them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vantage6.common.errors import AlreadyExists, FailedPrecondition, NotFound
from vantage6.server.domain.caller import Caller, NodeCaller, Operation, Resource
from vantage6.server.domain.checks import ONCE, Repeatable, check_public_key, check_text
from vantage6.server.domain.permissions import missing, require, require_user, require_view, visibility
from vantage6.server.store.pages import Page, Slice
from vantage6.server.store.tables import Collaboration, Node, Organization, Payload, User

if TYPE_CHECKING:
    from vantage6.server.store.parties import CollaborationFilter, OrganizationFilter
    from vantage6.server.store.sql import Database, Store

_LONGEST = {"name": 128, "domain": 253, "address1": 256, "address2": 256, "zipcode": 32, "country": 128}


async def _nothing(_store: Store, _node: Node) -> None:
    return


@dataclass(frozen=True)
class Hooks:
    """What other parts of the server do when a party goes."""

    # Within the transaction, before the node is deleted: ends its unfinished results.
    node_leaving: Callable[[Store, Node], Awaitable[None]] = _nothing
    # After the commit: closes the connection, if there is one.
    node_cut_off: Callable[[Node], None] = lambda _node: None
    # After the commit: deletes the bytes.
    payloads_gone: Callable[[Sequence[Payload]], None] = lambda _payloads: None


@dataclass(frozen=True)
class OrganizationView:
    """`nodes` and `users` are filled only where they were asked for."""

    row: Organization
    collaboration_ids: list[int]
    nodes: list[Node] = field(default_factory=list)
    users: list[User] = field(default_factory=list)


@dataclass(frozen=True)
class CollaborationView:
    row: Collaboration
    organization_ids: list[int]
    nodes: list[Node] = field(default_factory=list)


class OrganizationRules:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, caller: Caller, organization_id: int, *, relations: bool = False) -> OrganizationView:
        async with self._database.read() as store:
            row = await visible_organization(store, caller, organization_id)
            return (await organization_views(store, [row], relations=relations))[0]

    async def find(
        self,
        caller: Caller,
        page: Page,
        wanted: OrganizationFilter,
        *,
        relations: bool = False,
    ) -> Slice[OrganizationView]:
        seen = visibility(caller, Resource.ORGANIZATION)
        async with self._database.read() as store:
            if wanted.collaboration_id is not None:
                await visible_collaboration(store, caller, wanted.collaboration_id)
            rows = await store.parties.list_organizations(seen, page, wanted)
            return Slice(await organization_views(store, rows.items, relations=relations), rows.total)

    async def create(
        self, caller: Caller, fields: dict[str, str], public_key: bytes, repeatable: Repeatable = ONCE
    ) -> OrganizationView:
        user = require_user(caller)
        # Without an organization or a collaboration to refer to, only the global scope reaches.
        require(user, Resource.ORGANIZATION, Operation.CREATE)
        checked = _checked(fields, required="name")
        async with self._database.write() as store:
            made = await repeatable.made_before(store, user)
            if made is not None:
                row = await visible_organization(store, caller, made)
                return (await organization_views(store, [row]))[0]
            if await store.parties.organization_by_name(checked["name"]) is not None:
                raise AlreadyExists(f"name: the organization name '{checked['name']}' is taken.", field="name")
            row = Organization(**checked, public_key=check_public_key(public_key))
            await store.parties.add_organization(row)
            await repeatable.remember(store, user, row.id)
            return OrganizationView(row, [])

    async def update(
        self, caller: Caller, organization_id: int, fields: dict[str, str], public_key: bytes | None
    ) -> OrganizationView:
        checked = _checked(fields)
        async with self._database.write() as store:
            row = await visible_organization(store, caller, organization_id)
            require(caller, Resource.ORGANIZATION, Operation.EDIT, organization_id=row.id)
            if isinstance(caller, NodeCaller):
                _check_node_sets_key(row, fields, public_key)
            name = checked.get("name", row.name)
            if name != row.name and await store.parties.organization_by_name(name) is not None:
                raise AlreadyExists(f"name: the organization name '{name}' is taken.", field="name")
            for key, text in checked.items():
                setattr(row, key, text)
            if public_key is not None:
                row.public_key = check_public_key(public_key)
            await store.flush()
            return (await organization_views(store, [row], relations=True))[0]

    async def delete(self, caller: Caller, organization_id: int) -> None:
        user = require_user(caller)

        async def work(store: Store) -> None:
            row = await visible_organization(store, caller, organization_id)
            require(user, Resource.ORGANIZATION, Operation.DELETE)
            if await store.parties.collaborations_of(row.id):
                raise FailedPrecondition("It is a member of a collaboration; remove it from there first.")
            await store.parties.delete_organization(row)
            store.rights_changed()

        await self._database.transact(work)


class CollaborationRules:
    def __init__(self, database: Database, hooks: Hooks | None = None) -> None:
        self._database = database
        self._hooks = hooks or Hooks()

    async def get(self, caller: Caller, collaboration_id: int, *, relations: bool = False) -> CollaborationView:
        async with self._database.read() as store:
            row = await visible_collaboration(store, caller, collaboration_id)
            return (await _collaboration_views(store, [row], relations=relations))[0]

    async def find(
        self,
        caller: Caller,
        page: Page,
        wanted: CollaborationFilter,
        *,
        relations: bool = False,
    ) -> Slice[CollaborationView]:
        seen = visibility(caller, Resource.COLLABORATION)
        async with self._database.read() as store:
            if wanted.organization_id is not None:
                await visible_organization(store, caller, wanted.organization_id)
            rows = await store.parties.list_collaborations(seen, page, wanted)
            return Slice(await _collaboration_views(store, rows.items, relations=relations), rows.total)

    async def create(
        self, caller: Caller, name: str, organization_ids: Collection[int], *, encrypted: bool,
        repeatable: Repeatable = ONCE,
    ) -> CollaborationView:  # fmt: skip
        user = require_user(caller)
        require(user, Resource.COLLABORATION, Operation.CREATE)
        check_text("name", name, 128, required=True)
        async with self._database.write() as store:
            made = await repeatable.made_before(store, user)
            if made is not None:
                row = await visible_collaboration(store, caller, made)
                return (await _collaboration_views(store, [row]))[0]
            await _require_free_name(store, name)
            members = sorted(set(organization_ids))
            await _require_organizations(store, members)
            row = await store.parties.add_collaboration(Collaboration(name=name, encrypted=encrypted))
            await store.parties.add_members(row.id, members)
            await repeatable.remember(store, user, row.id)
            return CollaborationView(row, members)

    async def update(
        self, caller: Caller, collaboration_id: int, name: str | None, organization_ids: Collection[int]
    ) -> CollaborationView:
        """No organizations means that the members stay as they are."""

        async def work(store: Store) -> CollaborationView:
            row = await self._editable(store, caller, collaboration_id)
            if name is not None and name != row.name:
                check_text("name", name, 128, required=True)
                await _require_free_name(store, name)
                row.name = name
            if organization_ids:
                present = await store.parties.member_ids(row.id)
                await self._add(store, caller, row, set(organization_ids) - present)
                await self._remove(store, row, present - set(organization_ids))
            await store.flush()
            return (await _collaboration_views(store, [row], relations=True))[0]

        return await self._database.transact(work)

    async def delete(self, caller: Caller, collaboration_id: int) -> None:
        async def work(store: Store) -> None:
            row = await visible_collaboration(store, caller, collaboration_id)
            require(caller, Resource.COLLABORATION, Operation.DELETE, collaboration_ids=[row.id])
            nodes = await store.parties.nodes_at(collaboration_ids=[row.id])
            payloads = await store.parties.delete_collaboration(row)
            store.rights_changed()
            for node in nodes:
                store.after_commit(partial(self._hooks.node_cut_off, node))
            store.after_commit(lambda: self._hooks.payloads_gone(payloads))

        await self._database.transact(work)

    async def add_organization(self, caller: Caller, collaboration_id: int, organization_id: int) -> CollaborationView:
        async def work(store: Store) -> CollaborationView:
            row = await self._editable(store, caller, collaboration_id)
            if not await store.parties.is_member(organization_id, row.id):
                await self._add(store, caller, row, {organization_id})
            return (await _collaboration_views(store, [row], relations=True))[0]

        return await self._database.transact(work)

    async def remove_organization(
        self, caller: Caller, collaboration_id: int, organization_id: int
    ) -> CollaborationView:
        async def work(store: Store) -> CollaborationView:
            row = await self._editable(store, caller, collaboration_id)
            if not await store.parties.is_member(organization_id, row.id):
                raise NotFound(f"Organization {organization_id} is no member of this collaboration.", field="id")
            await self._remove(store, row, {organization_id})
            return (await _collaboration_views(store, [row], relations=True))[0]

        return await self._database.transact(work)

    async def _editable(self, store: Store, caller: Caller, collaboration_id: int) -> Collaboration:
        row = await visible_collaboration(store, caller, collaboration_id)
        require(caller, Resource.COLLABORATION, Operation.EDIT, collaboration_ids=[row.id])
        return row

    async def _add(self, store: Store, caller: Caller, row: Collaboration, organization_ids: set[int]) -> None:
        await _require_organizations(store, organization_ids)
        for organization_id in organization_ids:
            # The right over the collaboration alone would let its admin reach into any organization (CVE-2024-32969).
            require(caller, Resource.COLLABORATION, Operation.EDIT, organization_id=organization_id)
        await store.parties.add_members(row.id, sorted(organization_ids))
        store.rights_changed()

    async def _remove(self, store: Store, row: Collaboration, organization_ids: Collection[int]) -> None:
        leaving = [
            node
            for node in await store.parties.nodes_at(collaboration_ids=[row.id])
            if node.organization_id in organization_ids
        ]
        await remove_nodes(store, self._hooks, leaving)
        await store.parties.remove_members(row.id, organization_ids)
        store.rights_changed()


async def remove_nodes(store: Store, hooks: Hooks, nodes: Collection[Node]) -> None:
    for node in nodes:
        await hooks.node_leaving(store, node)
        store.after_commit(partial(hooks.node_cut_off, node))
    await store.parties.delete_nodes([node.id for node in nodes])


async def visible_collaboration(store: Store, caller: Caller, collaboration_id: int) -> Collaboration:
    require_view(caller, Resource.COLLABORATION, collaboration_id, collaboration_ids=[collaboration_id])
    row = await store.parties.collaboration(collaboration_id)
    if row is None:
        raise missing(Resource.COLLABORATION, collaboration_id)
    return row


async def visible_organization(store: Store, caller: Caller, organization_id: int) -> Organization:
    within = await store.parties.collaborations_of(organization_id)
    require_view(
        caller, Resource.ORGANIZATION, organization_id, organization_id=organization_id, collaboration_ids=within
    )
    row = await store.parties.organization(organization_id)
    if row is None:
        raise missing(Resource.ORGANIZATION, organization_id)
    return row


async def organization_views(
    store: Store, rows: Sequence[Organization], *, relations: bool = False
) -> list[OrganizationView]:
    """A constant number of statements, however many rows."""
    ids = [row.id for row in rows]
    collaborations = await store.parties.collaborations_of_each(ids)
    nodes = await store.parties.nodes_at(organization_ids=ids) if relations else []
    users = await store.accounts.users_of_each(ids) if relations else {}
    return [
        OrganizationView(
            row,
            collaborations.get(row.id, []),
            [node for node in nodes if node.organization_id == row.id],
            users.get(row.id, []),
        )
        for row in rows
    ]


async def _collaboration_views(
    store: Store, rows: Sequence[Collaboration], *, relations: bool = False
) -> list[CollaborationView]:
    ids = [row.id for row in rows]
    members = await store.parties.members_of_each(ids)
    nodes = await store.parties.nodes_at(collaboration_ids=ids) if relations else []
    return [
        CollaborationView(row, members.get(row.id, []), [node for node in nodes if node.collaboration_id == row.id])
        for row in rows
    ]


def _checked(fields: dict[str, str], required: str = "") -> dict[str, str]:
    for name, text in fields.items():
        check_text(name, text, _LONGEST[name], required=name in {required, "name"})
    return fields


def _check_node_sets_key(row: Organization, fields: dict[str, str], public_key: bytes | None) -> None:
    if fields or public_key is None or (row.public_key and row.public_key != public_key):
        raise FailedPrecondition(
            "A node may only set the public key of its organization, and only while there is none.", field="public_key"
        )


async def _require_free_name(store: Store, name: str) -> None:
    if await store.parties.collaboration_by_name(name) is not None:
        raise AlreadyExists(f"Collaboration name '{name}' already exists!", field="name")


async def _require_organizations(store: Store, ids: Collection[int]) -> None:
    unknown = sorted(set(ids) - set(await store.parties.organizations(ids)))
    if unknown:
        raise NotFound(f"organization_ids: there is no organization {unknown[0]}.", field="organization_ids")
