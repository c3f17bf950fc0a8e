"""Organizations, collaborations, members and nodes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, delete, false, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from vantage6.common.errors import AlreadyExists, FailedPrecondition
from vantage6.server.store.counts import changed
from vantage6.server.store.events import GONE
from vantage6.server.store.locks import is_shared, replica_is_alive
from vantage6.server.store.pages import ANY_TIME, Page, Slice, Span, Visibility, clauses_of, fetch
from vantage6.server.store.tables import (
    Collaboration,
    Content,
    Member,
    Node,
    Organization,
    Payload,
    Result,
    Row,
    Task,
    table_of,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R", bound=Row)

WHOLE = Page()


@dataclass(frozen=True)
class OrganizationFilter:
    """Only a member of this collaboration; the other fields are columns."""

    collaboration_id: int | None = None
    name: str | None = None
    country: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class CollaborationFilter:
    """Only those of this organization; the other fields are columns."""

    organization_id: int | None = None
    name: str | None = None
    encrypted: bool | None = None


@dataclass(frozen=True)
class NodeFilter:
    collaboration_id: int | None = None
    organization_id: int | None = None
    online: bool | None = None
    name: str | None = None
    last_seen: Span = ANY_TIME


@dataclass(frozen=True)
class Program:
    """Who connects as a node: every start of its program is an instance, and counts its attempts."""

    instance: str = ""
    attempt: int = 0
    version: str = ""


@dataclass(frozen=True)
class Newest:
    """A node's newest connection: its number, and whether the node was cut off since (a new API key)."""

    number: int
    cut_off: bool


class Identity(NamedTuple):
    """What others are told of an organization."""

    id: int
    name: str
    public_key: bytes


_organizations, _members, _nodes = (table_of(row).c for row in (Organization, Member, Node))
_IDENTITIES = select(_organizations.id, _organizations.name, _organizations.public_key).where(
    _organizations.id.in_(bindparam("ids", expanding=True))
)
_MEMBER_IDS = select(_members.organization_id).where(_members.collaboration_id == bindparam("collaboration_id"))
_ONLINE = select(_nodes.organization_id, _nodes.collaboration_id).where(
    _nodes.online,
    _nodes.organization_id.in_(bindparam("organization_ids", expanding=True)),
    _nodes.collaboration_id.in_(bindparam("collaboration_ids", expanding=True)),
)


async def add_row(session: AsyncSession, row: R, taken: str) -> R:
    """Inserts a row; the constraint decides when two callers want one name at the same time."""
    try:
        async with session.begin_nested():
            session.add(row)
            await session.flush()
    except IntegrityError as error:
        raise AlreadyExists(taken) from error
    return row


class Parties:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- organizations

    async def organization(self, organization_id: int) -> Organization | None:
        return await self._session.get(Organization, organization_id)

    async def organization_by_name(self, name: str) -> Organization | None:
        return await self._one(select(Organization).where(Organization.name == name))

    async def list_organizations(
        self, visible: Visibility, page: Page = WHOLE, wanted: OrganizationFilter | None = None
    ) -> Slice[Organization]:
        wanted = wanted or OrganizationFilter()
        query = select(Organization).where(_organizations_seen(visible), *clauses_of(wanted, Organization))
        if wanted.collaboration_id is not None:
            query = query.where(Organization.id.in_(_members_of([wanted.collaboration_id])))
        return await fetch(self._session, query, Organization.id, page, name=Organization.name)

    async def organizations(self, ids: Collection[int]) -> dict[int, Organization]:
        rows = await self._session.scalars(select(Organization).where(Organization.id.in_(ids)))
        return {row.id: row for row in rows}

    async def identities(self, ids: Collection[int]) -> dict[int, Identity]:
        rows = await self._session.execute(_IDENTITIES, {"ids": list(ids)})
        return {row.id: Identity(*row) for row in rows}

    async def add_organization(self, row: Organization) -> Organization:
        return await add_row(self._session, row, f"The organization name '{row.name}' is taken.")

    async def delete_organization(self, row: Organization) -> None:
        try:
            async with self._session.begin_nested():
                await self._session.delete(row)
                await self._session.flush()
                await changed(self._session)
        except IntegrityError as error:
            raise FailedPrecondition(
                "Results of this organization are still kept; delete their tasks first."
            ) from error

    # --- collaborations

    async def collaboration(self, collaboration_id: int) -> Collaboration | None:
        return await self._session.get(Collaboration, collaboration_id)

    async def plain_among(self, ids: Collection[int]) -> set[int]:
        """Which of these are not encrypted."""
        query = select(Collaboration.id).where(Collaboration.id.in_(ids), ~Collaboration.encrypted)
        return set(await self._session.scalars(query))

    async def collaboration_by_name(self, name: str) -> Collaboration | None:
        return await self._one(select(Collaboration).where(Collaboration.name == name))

    async def list_collaborations(
        self, visible: Visibility, page: Page = WHOLE, wanted: CollaborationFilter | None = None
    ) -> Slice[Collaboration]:
        wanted = wanted or CollaborationFilter()
        query = select(Collaboration).where(_collaborations_seen(visible), *clauses_of(wanted, Collaboration))
        if wanted.organization_id is not None:
            query = query.where(Collaboration.id.in_(_collaborations_of([wanted.organization_id])))
        return await fetch(self._session, query, Collaboration.id, page, name=Collaboration.name)

    async def add_collaboration(self, row: Collaboration) -> Collaboration:
        return await add_row(self._session, row, f"The collaboration name '{row.name}' is taken.")

    async def delete_collaboration(self, row: Collaboration) -> list[Payload]:
        """Deletes it with all that belongs to it; returns its payloads, whose bytes are elsewhere.

        Contents go first: they refer to payloads by a restricting key, which a cascade in any order would trip over.
        """
        tasks = select(Task.id).where(Task.collaboration_id == row.id)
        results = select(Result.id).where(Result.task_id.in_(tasks))
        await self._session.execute(delete(Content).where(Content.result_id.in_(results)))
        payloads = list(await self._session.scalars(select(Payload).where(Payload.collaboration_id == row.id)))
        await self._session.execute(delete(Collaboration).where(Collaboration.id == row.id))
        await changed(self._session)
        self._session.info.setdefault(GONE, set()).add(row.id)
        return payloads

    # --- members

    async def collaborations_of(self, organization_id: int) -> frozenset[int]:
        return frozenset(await self._session.scalars(_collaborations_of([organization_id])))

    async def collaborations_of_each(self, organization_ids: Collection[int]) -> dict[int, list[int]]:
        """Organization id to the ids of its collaborations."""
        return await self._members(Member.organization_id.in_(organization_ids), by_organization=True)

    async def member_ids(self, collaboration_id: int) -> frozenset[int]:
        return frozenset(await self._session.scalars(_MEMBER_IDS, {"collaboration_id": collaboration_id}))

    async def members_of_each(self, collaboration_ids: Collection[int]) -> dict[int, list[int]]:
        """Collaboration id to the ids of its members."""
        return await self._members(Member.collaboration_id.in_(collaboration_ids), by_organization=False)

    async def members(self, collaboration_id: int) -> list[Organization]:
        query = select(Organization).where(Organization.id.in_(_members_of([collaboration_id])))
        return list(await self._session.scalars(query.order_by(Organization.id)))

    async def is_member(self, organization_id: int, collaboration_id: int) -> bool:
        return await self._session.get(Member, (collaboration_id, organization_id)) is not None

    async def add_members(self, collaboration_id: int, organization_ids: Iterable[int]) -> None:
        for organization_id in organization_ids:
            self._session.add(Member(collaboration_id=collaboration_id, organization_id=organization_id))
        await self._session.flush()

    async def remove_members(self, collaboration_id: int, organization_ids: Collection[int]) -> None:
        gone = Member.organization_id.in_(organization_ids)
        await self._session.execute(delete(Member).where(Member.collaboration_id == collaboration_id, gone))

    async def _members(self, which: ColumnElement[bool], *, by_organization: bool) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        query = select(Member).where(which).order_by(Member.collaboration_id, Member.organization_id)
        for row in await self._session.scalars(query):
            if by_organization:
                found[row.organization_id].append(row.collaboration_id)
            else:
                found[row.collaboration_id].append(row.organization_id)
        return found

    # --- nodes

    async def node(self, node_id: int) -> Node | None:
        return await self._session.get(Node, node_id)

    async def node_of(self, organization_id: int, collaboration_id: int) -> Node | None:
        which = (Node.organization_id == organization_id, Node.collaboration_id == collaboration_id)
        return await self._one(select(Node).where(*which))

    async def node_by_name(self, name: str) -> Node | None:
        return await self._one(select(Node).where(Node.name == name))

    async def node_by_api_key(self, api_key_hash: str) -> Node | None:
        return await self._one(select(Node).where(Node.api_key_hash == api_key_hash))

    async def list_nodes(
        self, visible: Visibility, page: Page = WHOLE, wanted: NodeFilter | None = None
    ) -> Slice[Node]:
        query = select(Node).where(_nodes_seen(visible), *clauses_of(wanted or NodeFilter(), Node))
        return await fetch(self._session, query, Node.id, page, name=Node.name, last_seen=Node.last_seen)

    async def nodes_at(
        self, *, organization_ids: Collection[int] = (), collaboration_ids: Collection[int] = ()
    ) -> list[Node]:
        """Nodes of any of these organizations or collaborations, ordered by id."""
        which = or_(Node.organization_id.in_(organization_ids), Node.collaboration_id.in_(collaboration_ids))
        return list(await self._session.scalars(select(Node).where(which).order_by(Node.id)))

    async def online_among(
        self, organization_ids: Collection[int], collaboration_ids: Collection[int]
    ) -> set[tuple[int, int]]:
        """Which of these organizations have a connected node in which of these collaborations."""
        which = {"organization_ids": list(organization_ids), "collaboration_ids": list(collaboration_ids)}
        return {(row.organization_id, row.collaboration_id) for row in await self._session.execute(_ONLINE, which)}

    async def add_node(self, row: Node) -> Node:
        return await add_row(self._session, row, "The name is taken, or the organization has a node there already.")

    async def delete_nodes(self, ids: Collection[int]) -> None:
        await self._session.execute(delete(Node).where(Node.id.in_(ids)))

    async def connected(self, node_id: int, program: Program, *, replica: int, at: dt.datetime) -> int | None:
        """Takes note of a new connection and returns its number; None if there is no such node, or if the same program
        has connected again since.

        It locks the node's row: connecting, and handing out to the node's connection, exclude each other.
        """
        overtaken = (Node.instance == program.instance) & (Node.attempt > program.attempt)
        which = (Node.id == node_id, or_(Node.instance.is_(None), ~overtaken))
        values = {"online": True, "last_seen": at, "replica": replica, **vars(program)}
        change = update(Node).where(*which).values(connection=Node.connection + 1, **values)
        return await self._session.scalar(change.returning(Node.connection))

    async def disconnected(self, node_id: int, connection: int, program: Program, at: dt.datetime) -> bool:
        """Takes note of the end of a connection, and says whether the node has none now: a newer one may be elsewhere.

        The number alone would not do: it is given again where the transaction that had it was undone.
        """
        which = (Node.connection == connection, Node.instance == program.instance, Node.attempt == program.attempt)
        change = update(Node).where(Node.id == node_id, *which).values(online=False, last_seen=at)
        if await self._session.scalar(change.returning(Node.id)) is not None:
            return True
        row = await self.node(node_id)
        return row is None or not row.online

    async def cut_off(self, node_id: int) -> None:
        """No connection that there is counts as the node's newest any more; one that comes is taken in as ever."""
        change = update(Node).where(Node.id == node_id).values(connection=Node.connection + 1)
        await self._session.execute(change.values(online=False, instance=None, attempt=0))

    async def connections(self, node_ids: Collection[int]) -> dict[int, Newest]:
        """The newest connection of each node; none of them can get another one while this transaction lasts."""
        query = select(Node.id, Node.connection, Node.instance).where(Node.id.in_(node_ids)).order_by(Node.id)
        rows = await self._session.execute(query.with_for_update(read=True))
        return {row.id: Newest(row.connection, cut_off=row.instance is None) for row in rows}

    async def still_online(self, node_ids: Collection[int]) -> None:
        """Puts right what another replica wrote that held this one for dead."""
        await self._session.execute(update(Node).where(Node.id.in_(node_ids), ~Node.online).values(online=True))

    async def forget_replicas(self, own: int) -> list[Node]:
        """Marks the nodes of replicas offline that are no more, and returns them.

        SQLite has one process: what another one wrote is over.
        """
        gone = Node.replica != own
        if is_shared(self._session):
            gone &= ~replica_is_alive(Node.replica)
        change = update(Node).where(Node.online, gone).values(online=False).returning(Node)
        return list(await self._session.scalars(change))

    async def _one(self, query: Select[R]) -> R | None:
        return (await self._session.scalars(query)).one_or_none()


def _members_of(collaboration_ids: Collection[int]) -> Select[int]:
    return select(Member.organization_id).where(Member.collaboration_id.in_(collaboration_ids))


def _collaborations_of(organization_ids: Collection[int]) -> Select[int]:
    return select(Member.collaboration_id).where(Member.organization_id.in_(organization_ids))


def _organizations_seen(visible: Visibility) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    seen: list[ColumnElement[bool]] = [false(), Organization.id.in_(visible.organization_ids)]
    if visible.collaboration_ids:
        seen.append(Organization.id.in_(_members_of(visible.collaboration_ids)))
    return or_(*seen)


def _collaborations_seen(visible: Visibility) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    seen = or_(false(), Collaboration.id.in_(visible.collaboration_ids))
    return seen if visible.within is None else seen & (Collaboration.id == visible.within)


def _nodes_seen(visible: Visibility) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    seen = or_(Node.organization_id.in_(visible.organization_ids), Node.collaboration_id.in_(visible.collaboration_ids))
    if visible.own_id is not None and visible.within is not None:
        seen = seen | (Node.id == visible.own_id)
    return seen if visible.within is None else seen & (Node.collaboration_id == visible.within)
