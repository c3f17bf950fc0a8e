"""Users, roles, sessions, and the memory of creating calls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    bindparam,
    delete,
    func,
    null,
    or_,
    select,
    true,
    union_all,
    update,
)

from vantage6.common.errors import AlreadyExists
from vantage6.server.store.counts import changed
from vantage6.server.store.locks import lock_name
from vantage6.server.store.pages import ANY_TIME, Page, Slice, Span, Visibility, clauses_of, fetch
from vantage6.server.store.parties import WHOLE, add_row
from vantage6.server.store.tables import Idempotency, Member, Node, Role, Row, Rule, Session, User, UserRole, table_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class UserFilter:
    """Only holders of the role of this name; the other fields are columns."""

    organization_id: int | None = None
    username: str | None = None
    email: str | None = None
    role: str | None = None
    last_seen: Span = ANY_TIME


@dataclass(frozen=True)
class RoleFilter:
    organization_id: int | None = None
    name: str | None = None


class UserInSession(NamedTuple):
    id: int
    username: str
    organization_id: int | None
    revoked: bool
    expires_at: dt.datetime
    # Resource, operation and scope.
    rules: frozenset[tuple[str, str, str]]
    # Of the user's organization.
    collaboration_ids: frozenset[int]


class NodeInSession(NamedTuple):
    id: int
    name: str
    organization_id: int
    collaboration_id: int
    revoked: bool
    expires_at: dt.datetime


# Of the tables' columns, not of the mapper's attributes, which cost a session as much again.
_users, _sessions, _nodes, _rules, _held, _members = (
    table_of(row).c for row in (User, Session, Node, Rule, UserRole, Member)
)
_USER_IN_SESSION = (
    select(_users.id, _users.username, _users.organization_id, _sessions.revoked, _sessions.expires_at)
    .join_from(table_of(User), table_of(Session), _sessions.user_id == _users.id)
    .where(_users.id == bindparam("of_user"), _sessions.id == bindparam("of_session"))
)
_NODE_IN_SESSION = (
    select(
        _nodes.id, _nodes.name, _nodes.organization_id, _nodes.collaboration_id, _sessions.revoked, _sessions.expires_at
    )
    .join_from(table_of(Node), table_of(Session), _sessions.node_id == _nodes.id)
    .where(_nodes.id == bindparam("of_node"), _sessions.id == bindparam("of_session"))
)
# One statement for both: it runs with every call.
_RIGHTS: Executable = union_all(
    select(_rules.resource, _rules.operation, _rules.scope, null().label("collaboration_id"))
    .join_from(table_of(Rule), table_of(UserRole), _held.role_id == _rules.role_id)
    .where(_held.user_id == bindparam("of_user")),
    select(null(), null(), null(), _members.collaboration_id).where(
        _members.organization_id == bindparam("of_organization")
    ),
)
_USERNAMES = select(_users.id, _users.username).where(_users.id.in_(bindparam("ids", expanding=True)))


class Accounts:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    # --- users

    async def user(self, user_id: int) -> User | None:
        return await self._session.get(User, user_id)

    async def user_by_name(self, username: str) -> User | None:
        return await self._one(select(User).where(User.username == username))

    async def user_by_email(self, email: str) -> User | None:
        return await self._one(select(User).where(User.email == email.lower()))

    async def list_users(
        self, visible: Visibility, page: Page = WHOLE, wanted: UserFilter | None = None
    ) -> Slice[User]:
        wanted = wanted or UserFilter()
        query = select(User).where(_users_seen(visible), *clauses_of(wanted, User))
        if wanted.role is not None:
            named = select(Role.id).where(Role.name == wanted.role)
            query = query.where(User.id.in_(select(UserRole.user_id).where(UserRole.role_id.in_(named))))
        return await fetch(self._session, query, User.id, page, username=User.username, last_seen=User.last_seen)

    async def users_with_role(self, role_ids: Collection[int]) -> dict[int, User]:
        """By id, all that hold any of these roles."""
        holders = select(UserRole.user_id).where(UserRole.role_id.in_(role_ids))
        return {row.id: row for row in await self._session.scalars(select(User).where(User.id.in_(holders)))}

    async def usernames(self, ids: Collection[int]) -> dict[int, str]:
        rows = await self._session.execute(_USERNAMES, {"ids": list(ids)})
        return {user_id: username for user_id, username in rows}  # noqa: C416  # Typed, unlike dict().

    async def users_of_each(self, organization_ids: Collection[int]) -> dict[int, list[User]]:
        """By organization."""
        query = select(User).where(User.organization_id.in_(organization_ids)).order_by(User.id)
        found: dict[int, list[User]] = defaultdict(list)
        for row in await self._session.scalars(query):
            if row.organization_id is not None:
                found[row.organization_id].append(row)
        return found

    async def user_ids_with_role(self, role_ids: Collection[int]) -> dict[int, list[int]]:
        """Role id to the ids of the users that hold it."""
        query = select(UserRole).where(UserRole.role_id.in_(role_ids)).order_by(UserRole.user_id)
        found: dict[int, list[int]] = defaultdict(list)
        for row in await self._session.scalars(query):
            found[row.role_id].append(row.user_id)
        return found

    async def add_user(self, row: User) -> User:
        return await add_row(self._session, row, "The user name or the email address is taken.")

    async def delete_user(self, row: User) -> None:
        await self._session.execute(delete(User).where(User.id == row.id))
        await changed(self._session)

    async def count_users(self) -> int:
        return await self._session.scalar(select(func.count()).select_from(User)) or 0

    # --- roles

    async def role(self, role_id: int) -> Role | None:
        return await self._session.get(Role, role_id)

    async def list_roles(
        self, visible: Visibility, page: Page = WHOLE, wanted: RoleFilter | None = None
    ) -> Slice[Role]:
        """Default roles are seen by everybody."""
        query = select(Role).where(_roles_seen(visible), *clauses_of(wanted or RoleFilter(), Role))
        return await fetch(self._session, query, Role.id, page, name=Role.name)

    async def default_roles(self) -> dict[str, Role]:
        rows = await self._session.scalars(select(Role).where(Role.organization_id.is_(None)))
        return {row.name: row for row in rows}

    async def roles_by_name(self, names: Collection[str], organization_id: int | None) -> dict[str, Role]:
        """Default roles and those of the organization; a default one cannot be hidden by one of the same name."""
        which = or_(Role.organization_id.is_(None), Role.organization_id == organization_id)
        rows = await self._session.scalars(select(Role).where(Role.name.in_(names), which))
        return {row.name: row for row in sorted(rows, key=lambda row: row.organization_id is None)}

    async def add_role(self, row: Role) -> Role:
        return await add_row(self._session, row, f"The organization has a role named '{row.name}' already.")

    async def delete_role(self, row: Role) -> None:
        await self._session.execute(delete(Role).where(Role.id == row.id))

    # --- sessions

    async def session(self, session_id: int, *, locked: bool = False) -> Session | None:
        """`locked`: nobody else rotates it meanwhile."""
        return await self._session.get(Session, session_id, with_for_update=True if locked else None)

    async def add_session(self, row: Session) -> Session:
        self._session.add(row)
        await self._session.flush()
        return row

    async def sessions_of_user(self, user_id: int, now: dt.datetime, page: Page = WHOLE) -> Slice[Session]:
        query = select(Session).where(Session.user_id == user_id, ~Session.revoked, Session.expires_at > now)
        return await fetch(self._session, query, Session.id, page)

    async def revoke_sessions(
        self, *, user_id: int | None = None, node_id: int | None = None, besides: int | None = None
    ) -> None:
        """Ends all sessions of a user or of a node, except the one with the id `besides`."""
        owner = Session.user_id == user_id if user_id is not None else Session.node_id == node_id
        change = update(Session).where(owner).values(revoked=True)
        await self._session.execute(change if besides is None else change.where(Session.id != besides))

    async def forget_sessions(self, now: dt.datetime) -> None:
        """Deletes what can never be used again."""
        await self._session.execute(delete(Session).where(Session.expires_at < now))

    # --- who is behind a token: columns and ready-made statements, since these run with every call

    async def user_in_session(self, user_id: int, session_id: int) -> UserInSession | None:
        ids = {"of_user": user_id, "of_session": session_id}
        row = (await self._session.execute(_USER_IN_SESSION, ids)).one_or_none()
        if row is None:
            return None
        whose = {"of_user": user_id, "of_organization": row.organization_id}
        rules, member_of = set[tuple[str, str, str]](), set[int]()
        for right in await self._session.execute(_RIGHTS, whose):
            if right.collaboration_id is None:
                rules.add((right.resource, right.operation, right.scope))
            else:
                member_of.add(right.collaboration_id)
        return UserInSession(*row, rules=frozenset(rules), collaboration_ids=frozenset(member_of))

    async def node_in_session(self, node_id: int, session_id: int) -> NodeInSession | None:
        ids = {"of_node": node_id, "of_session": session_id}
        row = (await self._session.execute(_NODE_IN_SESSION, ids)).one_or_none()
        return None if row is None else NodeInSession(*row)

    # --- idempotency

    async def made_before(self, caller: str, key: str, digest: bytes) -> int | None:
        """Id of what a creating call with this key made; the same key with another request is refused (X12).

        The same call twice at once: the second waits here, and then finds what the first made.
        """
        await lock_name(self._session, f"{caller}:{key}")
        row = await self._session.get(Idempotency, (caller, key))
        if row is None:
            return None
        if row.digest != digest:
            raise AlreadyExists("The idempotency key was used with another request; choose a new one.", key=key)
        return row.resource_id

    async def remember(self, caller: str, key: str, digest: bytes, resource_id: int, now: dt.datetime) -> None:
        row = Idempotency(caller=caller, key=key, digest=digest, resource_id=resource_id, created_at=now)
        await add_row(self._session, row, "A call with the same idempotency key is under way.")

    async def delete_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            await self._session.delete(row)
        await self._session.flush()

    async def _one(self, query: Select[R]) -> R | None:
        return (await self._session.scalars(query)).one_or_none()


def _users_seen(visible: Visibility) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    seen = or_(User.organization_id.in_(visible.organization_ids), User.id == visible.own_id)
    if visible.collaboration_ids:
        shared = select(Member.organization_id).where(Member.collaboration_id.in_(visible.collaboration_ids))
        seen = seen | User.organization_id.in_(shared)
    return seen


def _roles_seen(visible: Visibility) -> ColumnElement[bool]:
    if visible.everything:
        return true()
    return or_(Role.organization_id.is_(None), Role.organization_id.in_(visible.organization_ids))
