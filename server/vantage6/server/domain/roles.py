"""Roles: the default ones of the permission table, and an organization's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PermissionDenied
from vantage6.server.domain.caller import Caller, Operation, Resource, Rules, Scope, UserCaller
from vantage6.server.domain.checks import ONCE, Repeatable, check_text
from vantage6.server.domain.people import RoleView
from vantage6.server.domain.permissions import (
    holds,
    missing,
    require,
    require_user,
    require_view,
    visibility,
)
from vantage6.server.store.pages import Page, Slice
from vantage6.server.store.tables import Role, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vantage6.server.store.accounts import RoleFilter
    from vantage6.server.store.sql import Database, Store

RuleText = tuple[str, str, str]
"""Resource, operation and scope as the contract spells them."""


class RoleRules:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, caller: Caller, role_id: int, *, relations: bool = False) -> RoleView:
        user = require_user(caller)
        async with self._database.read() as store:
            return (await _views(store, [await _visible(store, user, role_id)], relations=relations))[0]

    async def find(self, caller: Caller, page: Page, wanted: RoleFilter, *, relations: bool = False) -> Slice[RoleView]:
        user = require_user(caller)
        async with self._database.read() as store:
            seen = visibility(user, Resource.ROLE)
            rows = await store.accounts.list_roles(seen, page, wanted)
            return Slice(await _views(store, rows.items, relations=relations), rows.total)

    async def create(
        self, caller: Caller, name: str, description: str, rules: Sequence[RuleText],
        organization_id: int | None, repeatable: Repeatable = ONCE,
    ) -> RoleView:  # fmt: skip
        user = require_user(caller)
        owner = user.organization_id if organization_id is None else organization_id
        if owner is None:
            raise InvalidArgument("organization_id: is required, you belong to none.", field="organization_id")
        require(user, Resource.ROLE, Operation.CREATE, organization_id=owner)
        wanted = _grantable(user, rules, owner)
        _check_texts(name, description)
        async with self._database.write() as store:
            made = await repeatable.made_before(store, user)
            if made is not None:
                return RoleView(await _visible(store, user, made))
            if await store.parties.organization(owner) is None:
                raise missing(Resource.ORGANIZATION, owner)
            await _require_free(store, name, owner)
            row = Role(name=name, description=description, organization_id=owner, rules=rule_rows(wanted))
            await store.accounts.add_role(row)
            await repeatable.remember(store, user, row.id)
            return RoleView(row)

    async def update(
        self, caller: Caller, role_id: int, name: str | None, description: str | None, rules: Sequence[RuleText] | None
    ) -> RoleView:
        """What is None stays as it is."""
        user = require_user(caller)
        async with self._database.write() as store:
            row, owner = await self._changeable(store, user, role_id, Operation.EDIT)
            if name is not None and name != row.name:
                _check_texts(name, "")
                await _require_free(store, name, owner)
                row.name = name
            if description is not None:
                _check_texts(row.name, description)
                row.description = description
            if rules is not None:
                replace_rules(row, _grantable(user, rules, owner))
                store.rights_changed()
            await store.flush()
            return (await _views(store, [row], relations=True))[0]

    async def delete(self, caller: Caller, role_id: int) -> None:
        user = require_user(caller)
        async with self._database.write() as store:
            row, _ = await self._changeable(store, user, role_id, Operation.DELETE)
            await store.accounts.delete_role(row)
            store.rights_changed()

    async def _changeable(
        self, store: Store, caller: UserCaller, role_id: int, operation: Operation
    ) -> tuple[Role, int]:
        row = await _visible(store, caller, role_id)
        require(caller, Resource.ROLE, operation, organization_id=row.organization_id)
        if row.organization_id is None:
            raise FailedPrecondition("A default role cannot be changed; make one of your own.")
        return row, row.organization_id


def all_rules() -> list[RuleText]:
    """Every rule that there is."""
    return [
        (resource.value, operation.value, scope.name.lower())
        for resource in Resource
        for operation in Operation
        for scope in Scope
    ]


def rule_rows(rules: Rules) -> list[Rule]:
    return [
        Rule(resource=resource.value, operation=operation.value, scope=scope.name.lower())
        for (resource, operation), scope in rules.items()
    ]


def replace_rules(row: Role, rules: Rules) -> None:
    """Rows that stay are kept: a new one with the key of an old one would be inserted before that is deleted."""
    present = {(rule.resource, rule.operation): rule for rule in row.rules}
    for rule in rule_rows(rules):
        known = present.pop((rule.resource, rule.operation), None)
        if known is None:
            row.rules.append(rule)
        else:
            known.scope = rule.scope
    for gone in present.values():
        row.rules.remove(gone)


async def _visible(store: Store, caller: UserCaller, role_id: int) -> Role:
    row = await store.accounts.role(role_id)
    if row is None:
        raise missing(Resource.ROLE, role_id)
    if row.organization_id is not None:
        require_view(caller, Resource.ROLE, role_id, organization_id=row.organization_id)
    return row


async def _views(store: Store, rows: Sequence[Role], *, relations: bool) -> list[RoleView]:
    if not relations:
        return [RoleView(row) for row in rows]
    role_ids = [row.id for row in rows]
    holders = await store.accounts.user_ids_with_role(role_ids)
    # Which of them this caller may see, is decided where they are shown.
    users = await store.accounts.users_with_role(role_ids)
    return [RoleView(row, [users[user_id] for user_id in holders.get(row.id, [])]) for row in rows]


def _grantable(caller: UserCaller, texts: Iterable[RuleText], organization_id: int) -> Rules:
    rules = _parsed(texts)
    if not holds(caller.rules, rules, elsewhere=organization_id != caller.organization_id):
        raise PermissionDenied("rules: you do not hold all of them yourself.", field="rules")
    return rules


def _parsed(texts: Iterable[RuleText]) -> Rules:
    rules: Rules = {}
    for resource, operation, scope in texts:
        try:
            key = (Resource(resource), Operation(operation))
            reach = Scope[scope.upper()]
        except (ValueError, KeyError):
            text = f"{resource}, {operation}, {scope}"
            raise InvalidArgument(f"rules: there is no rule ({text}).", field="rules") from None
        rules[key] = max(reach, rules.get(key, Scope.OWN))
    return rules


def _check_texts(name: str, description: str) -> None:
    check_text("name", name, 64, required=True)
    check_text("description", description, 1_000)
    if "," in name:
        raise InvalidArgument("name: must not hold a comma; names of roles are listed with commas.", field="name")


async def _require_free(store: Store, name: str, organization_id: int) -> None:
    if await store.accounts.roles_by_name([name], organization_id):
        raise AlreadyExists(f"name: there is a role '{name}' already.", field="name")
