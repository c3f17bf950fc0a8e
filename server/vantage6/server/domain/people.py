"""Users and roles: nobody grants what they do not hold, nobody touches an account that holds more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vantage6.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from vantage6.server.domain.caller import Caller, Operation, Resource, UserCaller
from vantage6.server.domain.checks import ONCE, Repeatable, check_email, check_text, check_username
from vantage6.server.domain.permissions import (
    ROOT,
    allows,
    granted_by,
    holds,
    missing,
    require,
    require_user,
    require_view,
    visibility,
)
from vantage6.server.domain.secrets import Passwords, check_password_strength
from vantage6.server.store.pages import Page, Slice
from vantage6.server.store.tables import Role, User

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vantage6.server.domain.throttle import Throttle
    from vantage6.server.store.accounts import UserFilter
    from vantage6.server.store.sql import Database, Store

SELF_EDITED = frozenset({"firstname", "lastname", "email", "password"})


@dataclass(frozen=True)
class NewUser:
    username: str
    email: str
    password: str
    firstname: str = ""
    lastname: str = ""
    roles: str = ""
    organization_id: int | None = None


@dataclass(frozen=True)
class UserChange:
    """The fields that were present in the request."""

    fields: dict[str, str] = field(default_factory=dict)
    roles: str | None = None
    organization_id: int | None = None
    current_password: str = ""

    def names(self) -> set[str]:
        more = {"roles": self.roles, "organization_id": self.organization_id}
        return set(self.fields) | {name for name, given in more.items() if given is not None}


@dataclass(frozen=True)
class RoleView:
    row: Role
    users: list[User] = field(default_factory=list)


class UserRules:
    def __init__(self, database: Database, passwords: Passwords, throttle: Throttle) -> None:
        self._database = database
        self._passwords = passwords
        self._throttle = throttle

    async def get(self, caller: Caller, user_id: int) -> User:
        user = require_user(caller)
        async with self._database.read() as store:
            return await visible_user(store, user, user_id)

    async def find(self, caller: Caller, page: Page, wanted: UserFilter) -> Slice[User]:
        user = require_user(caller)
        seen = visibility(user, Resource.USER)
        async with self._database.read() as store:
            return await store.accounts.list_users(seen, page, wanted)

    async def create(self, caller: Caller, new: NewUser, repeatable: Repeatable = ONCE) -> User:
        user = require_user(caller)
        organization_id = user.organization_id if new.organization_id is None else new.organization_id
        require(user, Resource.USER, Operation.CREATE, organization_id=organization_id)
        email = check_email(new.email)
        check_username(new.username)
        check_password_strength(new.password, new.username, email)
        for name in ("firstname", "lastname"):
            check_text(name, getattr(new, name), 128)
        async with self._database.read() as store:
            made = await repeatable.made_before(store, user)
            if made is not None:
                return await visible_user(store, user, made)
        password_hash = await self._passwords.hash(new.password)
        async with self._database.write() as store:
            # Again: the same call may have been made twice at once.
            made = await repeatable.made_before(store, user)
            if made is not None:
                return await visible_user(store, user, made)
            roles = await _grantable(store, user, new.roles, organization_id)
            await _require_home(store, organization_id, roles)
            await _require_free(store, username=new.username, email=email)
            row = User(
                username=new.username,
                email=email,
                password_hash=password_hash,
                firstname=new.firstname,
                lastname=new.lastname,
                organization_id=organization_id,
                roles=roles,
            )
            await store.accounts.add_user(row)
            await repeatable.remember(store, user, row.id)
            return row

    async def update(self, caller: Caller, user_id: int, change: UserChange, peer: str) -> User:
        user = require_user(caller)
        async with self._database.read() as store:
            row = await visible_user(store, user, user_id)
            _require_change(user, row, change)
        checked = _checked(change, row)
        password = checked.pop("password", None)
        password_hash = None
        if user.id == row.id and (password is not None or checked.get("email", row.email) != row.email):
            # A new password is mailed to the address: who may change it freely can take the account over.
            await self._check_current(row, change.current_password, peer)
        if password is not None:
            password_hash = await self._passwords.hash(password)
        async with self._database.write() as store:
            row = await visible_user(store, user, user_id)
            _require_change(user, row, change)
            await _require_free(store, besides=row.id, **checked)
            await _move_and_grant(store, user, row, change)
            for name, text in checked.items():
                setattr(row, name, text)
            if password_hash is not None:
                row.password_hash = password_hash
                await store.accounts.revoke_sessions(user_id=row.id, besides=user.session_id)
            store.rights_changed(row.id)
            await store.flush()
            return row

    async def delete(self, caller: Caller, user_id: int) -> None:
        user = require_user(caller)
        async with self._database.write() as store:
            row = await visible_user(store, user, user_id)
            require(user, Resource.USER, Operation.DELETE, organization_id=row.organization_id)
            require_not_above(user, row)
            await _keep_a_root(store, row, [])
            store.rights_changed(row.id)
            await store.accounts.delete_user(row)

    async def _check_current(self, row: User, password: str, peer: str) -> None:
        """A stolen token must not be enough to take the account over; throttled like a log-in."""
        account = f"user:{row.username.lower()}"
        self._throttle.check(account, peer)
        self._throttle.failed(account, peer)
        if not await self._passwords.check(password, row.password_hash):
            raise Unauthenticated("current_password: is wrong.", field="current_password")
        self._throttle.succeeded(account, peer)


async def visible_user(store: Store, caller: UserCaller, user_id: int) -> User:
    row = await store.accounts.user(user_id)
    if row is None:
        raise missing(Resource.USER, user_id)
    within = await store.parties.collaborations_of(row.organization_id) if row.organization_id else frozenset()
    require_view(
        caller, Resource.USER, user_id,
        own=caller.id == row.id, organization_id=row.organization_id, collaboration_ids=within,
    )  # fmt: skip
    return row


def _require_change(caller: UserCaller, row: User, change: UserChange) -> None:
    may_edit = allows(caller, Resource.USER, Operation.EDIT, organization_id=row.organization_id)
    own = caller.id == row.id and change.names() <= SELF_EDITED
    if not (may_edit or own):
        raise PermissionDenied("You may not change this of this user.", fields=",".join(sorted(change.names())))
    if caller.id != row.id:
        require_not_above(caller, row)
    if change.organization_id is not None and change.organization_id != row.organization_id:
        # Needs the right over both organizations; only the global scope has it.
        require(caller, Resource.USER, Operation.EDIT)


def is_above(caller: UserCaller, row: User) -> bool:
    """Whether this user holds rights that the caller does not."""
    elsewhere = row.organization_id != caller.organization_id
    return not holds(caller.rules, granted_by(row.roles), elsewhere=elsewhere)


def require_not_above(caller: UserCaller, row: User) -> None:
    """Who sets the password of an account can use it: editing root would be becoming root."""
    if is_above(caller, row):
        raise PermissionDenied("This user holds rights that you do not hold.")


def _checked(change: UserChange, row: User) -> dict[str, str]:
    fields = dict(change.fields)
    for name in ("firstname", "lastname"):
        check_text(name, fields.get(name, ""), 128)
    if "username" in fields:
        check_username(fields["username"])
    if "email" in fields:
        fields["email"] = check_email(fields["email"])
    if "password" in fields:
        names = fields.get("username", row.username), fields.get("email", row.email)
        check_password_strength(fields["password"], *names)
    return fields


async def _move_and_grant(store: Store, caller: UserCaller, row: User, change: UserChange) -> None:
    moves = change.organization_id is not None and change.organization_id != row.organization_id
    if not moves and change.roles is None:
        return
    home = change.organization_id if moves else row.organization_id
    # A move strips what was granted in view of the old organization (CVE-2023-22738).
    roles = await _grantable(store, caller, change.roles or "", home)
    await _require_home(store, home, roles)
    await _keep_a_root(store, row, roles)
    if moves:
        # What somebody asked for was asked for by an organization, where they are a stranger now; as with a deletion.
        await store.tasks.disown(row.id)
        await store.payloads.disown(f"user:{row.id}")
    row.organization_id = home
    row.roles = roles


async def _grantable(store: Store, caller: UserCaller, names: str, organization_id: int | None) -> list[Role]:
    """The roles of these names, all of which the caller may give to a user of this organization."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    found = await store.accounts.roles_by_name(wanted, organization_id)
    for name in sorted(wanted):
        if name not in found:
            raise InvalidArgument(f"roles: there is no role '{name}'.", field="roles")
        elsewhere = organization_id != caller.organization_id
        if not holds(caller.rules, granted_by([found[name]]), elsewhere=elsewhere):
            raise PermissionDenied(f"roles: you do not hold all that the role '{name}' allows.", field="roles")
    return [found[name] for name in sorted(found)]


async def _require_home(store: Store, organization_id: int | None, roles: Iterable[Role]) -> None:
    if organization_id is None:
        if not any(role.name == ROOT and role.organization_id is None for role in roles):
            raise InvalidArgument("organization_id: is required for all but root.", field="organization_id")
    elif await store.parties.organization(organization_id) is None:
        raise NotFound(f"organization_id: there is no organization {organization_id}.", field="organization_id")


async def _require_free(
    store: Store, *, besides: int | None = None, username: str = "", email: str = "", **_others: str
) -> None:
    by_name = await store.accounts.user_by_name(username) if username else None
    if by_name is not None and by_name.id != besides:
        raise AlreadyExists(f"username: '{username}' is taken.", field="username")
    by_email = await store.accounts.user_by_email(email) if email else None
    if by_email is not None and by_email.id != besides:
        raise AlreadyExists("email: the address is taken.", field="email")


async def _keep_a_root(store: Store, row: User, roles: Iterable[Role]) -> None:
    root = (await store.accounts.default_roles())[ROOT]
    holders = (await store.accounts.user_ids_with_role([root.id])).get(root.id, [])
    if holders == [row.id] and root.id not in {role.id for role in roles}:
        raise FailedPrecondition("This is the last root; make another one first.")
