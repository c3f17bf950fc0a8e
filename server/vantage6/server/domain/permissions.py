"""Who may do what: the one table of roles, and the few functions that read it.

A rule is (resource, operation) → scope. How a scope is meant:
- OWN: the caller itself, its own task, its own node; for a container its task, its own result of it, and the subtasks
  that it asked for with their results;
- ORGANIZATION: what belongs to the caller's organization;
- COLLABORATION: what belongs to a collaboration that the caller's organization is a member of, or to a fellow member;
- GLOBAL: everything.
Each scope holds the smaller ones. Nodes and containers are confined to their one collaboration, whatever the rule says.
API keys of nodes are made within the own organization, or with GLOBAL, and never for a fellow member (domain/nodes.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from vantage6.common.errors import NotFound, PermissionDenied, Unauthenticated
from vantage6.server.domain.caller import (
    Anonymous,
    Caller,
    ContainerCaller,
    NodeCaller,
    Operation,
    Resource,
    Rules,
    Scope,
    UserCaller,
)
from vantage6.server.store.pages import Visibility
from vantage6.server.store.tasks import TaskSight

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vantage6.server.store.tables import Role

__all__ = [
    "DEFAULT_ROLES", "ROOT", "Visibility", "allows", "granted_by", "holds", "missing", "require", "require_user",
    "require_view", "rules_of", "table_rules", "task_sight", "visibility",
]  # fmt: skip

ROOT = "root"

N: None = None
S, O, C, G = Scope.OWN, Scope.ORGANIZATION, Scope.COLLABORATION, Scope.GLOBAL  # noqa: E741
Grants = tuple[Scope | None, Scope | None, Scope | None, Scope | None]

OPERATIONS = (Operation.VIEW, Operation.CREATE, Operation.EDIT, Operation.DELETE)

# fmt: off
DEFAULT_ROLES: dict[str, tuple[str, dict[Resource, Grants]]] = {
    #                                              view create edit delete
    ROOT: ("Runs the server.", dict.fromkeys(Resource, (G, G, G, G))),
    "organization_admin": ("Keeps one organization: its data, users, roles and nodes.", {
        Resource.ORGANIZATION:                     (C,  N,  O,  N),
        Resource.COLLABORATION:                    (C,  N,  N,  N),
        Resource.NODE:                             (C,  O,  O,  O),
        Resource.USER:                             (O,  O,  O,  O),
        Resource.ROLE:                             (O,  O,  O,  O),
        Resource.TASK:                             (C,  C,  O,  O),
        Resource.RESULT:                           (C,  N,  N,  N),
        Resource.EVENT:                            (C,  N,  N,  N),
    }),
    "collaboration_admin": ("Keeps the collaborations of the own organization, and their tasks.", {
        Resource.ORGANIZATION:                     (C,  N,  N,  N),
        Resource.COLLABORATION:                    (C,  N,  C,  C),
        Resource.NODE:                             (C,  O,  C,  C),
        Resource.ROLE:                             (O,  N,  N,  N),
        Resource.TASK:                             (C,  C,  C,  C),
        Resource.RESULT:                           (C,  N,  N,  N),
        Resource.EVENT:                            (C,  N,  N,  N),
    }),
    "researcher": ("Runs tasks in the collaborations of the own organization.", {
        Resource.ORGANIZATION:                     (C,  N,  N,  N),
        Resource.COLLABORATION:                    (C,  N,  N,  N),
        Resource.NODE:                             (C,  N,  N,  N),
        Resource.TASK:                             (C,  C,  S,  S),
        Resource.RESULT:                           (C,  N,  N,  N),
        Resource.EVENT:                            (C,  N,  N,  N),
    }),
    "viewer": ("Looks on.", {
        Resource.ORGANIZATION:                     (C,  N,  N,  N),
        Resource.COLLABORATION:                    (C,  N,  N,  N),
        Resource.NODE:                             (C,  N,  N,  N),
        Resource.TASK:                             (C,  N,  N,  N),
        Resource.RESULT:                           (C,  N,  N,  N),
        Resource.EVENT:                            (C,  N,  N,  N),
    }),
}

# What every user holds, whatever the roles. Which fields of the own account may be edited: domain/people.py.
_EVERY_USER: dict[Resource, Grants] = {
    Resource.ORGANIZATION:                         (O,  N,  N,  N),
    Resource.USER:                                 (S,  N,  S,  N),
}
# A node may set its organization's public key while there is none: domain/parties.py.
_NODE: dict[Resource, Grants] = {
    Resource.ORGANIZATION:                         (C,  N,  O,  N),
    Resource.COLLABORATION:                        (C,  N,  N,  N),
    Resource.NODE:                                 (S,  N,  N,  N),
    Resource.TASK:                                 (C,  N,  N,  N),
    Resource.RESULT:                               (O,  N,  O,  N),
}
_CONTAINER: dict[Resource, Grants] = {
    Resource.ORGANIZATION:                         (C,  N,  N,  N),
    Resource.COLLABORATION:                        (C,  N,  N,  N),
    Resource.TASK:                                 (S,  S,  S,  N),
    Resource.RESULT:                               (S,  N,  N,  N),
    Resource.EVENT:                                (S,  N,  N,  N),
}
# fmt: on


def table_rules(grants: dict[Resource, Grants]) -> Rules:
    """A part of the table in the form in which it is asked."""
    return {
        (resource, operation): scope
        for resource, scopes in grants.items()
        for operation, scope in zip(OPERATIONS, scopes, strict=True)
        if scope is not None
    }


_USER_RULES, _NODE_RULES, _CONTAINER_RULES = (table_rules(part) for part in (_EVERY_USER, _NODE, _CONTAINER))


def granted_by(roles: Iterable[Role]) -> Rules:
    """What these roles allow: the largest scope of each."""
    rules: Rules = {}
    for role in roles:
        for rule in role.rules:
            key = (Resource(rule.resource), Operation(rule.operation))
            rules[key] = max(rules.get(key, Scope.OWN), Scope[rule.scope.upper()])
    return rules


@lru_cache(maxsize=256)
def rules_of(held: frozenset[tuple[str, str, str]]) -> Rules:
    """What a user may do who has these rules (resource, operation, scope) by some role, with what every user may do."""
    granted: Rules = {}
    for resource, operation, scope in held:
        key = (Resource(resource), Operation(operation))
        granted[key] = max(granted.get(key, Scope.OWN), Scope[scope.upper()])
    return granted | {key: max(scope, granted.get(key, scope)) for key, scope in _USER_RULES.items()}


def holds(held: Rules, wanted: Rules, *, elsewhere: bool = False) -> bool:
    """Whether `held` reaches at least as far as `wanted` everywhere: nobody grants what they do not have.

    `elsewhere`: the grant is for another organization, where the narrower scopes mean other things than here.
    """
    return all(key in held and held[key] >= (Scope.GLOBAL if elsewhere else scope) for key, scope in wanted.items())


def scope_of(caller: Caller, resource: Resource, operation: Operation) -> Scope | None:
    return _rules(caller).get((resource, operation))


def allows(
    caller: Caller,
    resource: Resource,
    operation: Operation,
    *,
    own: bool = False,
    organization_id: int | None = None,
    collaboration_ids: Collection[int] = (),
) -> bool:
    """Whether the caller may do this to the thing that belongs to this organization and these collaborations."""
    scope = scope_of(caller, resource, operation)
    if scope is None or isinstance(caller, Anonymous):
        return False
    if isinstance(caller, NodeCaller | ContainerCaller):
        if collaboration_ids and caller.collaboration_id not in collaboration_ids:
            return False
    elif scope is Scope.GLOBAL:
        return True
    if own:
        return True
    if scope >= Scope.ORGANIZATION and organization_id is not None and organization_id == caller.organization_id:
        return True
    return scope >= Scope.COLLABORATION and not _collaborations(caller).isdisjoint(collaboration_ids)


def require(
    caller: Caller,
    resource: Resource,
    operation: Operation,
    *,
    own: bool = False,
    organization_id: int | None = None,
    collaboration_ids: Collection[int] = (),
) -> None:
    """Raises PermissionDenied unless `allows`. For VIEW use `require_view`, which does not tell that a thing exists."""
    if isinstance(caller, Anonymous):
        raise Unauthenticated("Log in first.")
    if not allows(
        caller, resource, operation,
        own=own, organization_id=organization_id, collaboration_ids=collaboration_ids,
    ):  # fmt: skip
        raise PermissionDenied(f"You may not {operation} this {resource}.", resource=resource, operation=operation)


def require_view(
    caller: Caller,
    resource: Resource,
    resource_id: object,
    *,
    own: bool = False,
    organization_id: int | None = None,
    collaboration_ids: Collection[int] = (),
) -> None:
    """Raises NotFound, as for a thing that does not exist, unless the caller may see it."""
    if not allows(
        caller, resource, Operation.VIEW,
        own=own, organization_id=organization_id, collaboration_ids=collaboration_ids,
    ):  # fmt: skip
        raise missing(resource, resource_id)


def missing(resource: Resource, resource_id: object) -> NotFound:
    """The one answer for what is not there and for what the caller may not know of."""
    return NotFound(f"There is no {resource} with id {resource_id}, or you may not see it.", resource=resource)


def require_user(caller: Caller) -> UserCaller:
    if isinstance(caller, Anonymous):
        raise Unauthenticated("Log in first.")
    if not isinstance(caller, UserCaller):
        raise PermissionDenied("Only users may do this.")
    return caller


def visibility(caller: Caller, resource: Resource) -> Visibility:
    """The same as `allows(..., VIEW, ...)`, for list queries."""
    scope = scope_of(caller, resource, Operation.VIEW)
    if scope is None or isinstance(caller, Anonymous):
        return Visibility()
    own_id = caller.task_id if isinstance(caller, ContainerCaller) else caller.id
    organizations = set[int]()
    if scope >= Scope.ORGANIZATION and caller.organization_id is not None:
        organizations.add(caller.organization_id)
    return Visibility(
        everything=scope is Scope.GLOBAL,
        own_id=own_id,
        organization_ids=frozenset(organizations),
        collaboration_ids=_collaborations(caller) if scope >= Scope.COLLABORATION else frozenset(),
        within=None if isinstance(caller, UserCaller) else caller.collaboration_id,
    )


def task_sight(caller: Caller, resource: Resource) -> TaskSight:
    """`visibility` for what hangs on tasks: resource TASK, RESULT or EVENT."""
    if scope_of(caller, resource, Operation.VIEW) is None:
        return TaskSight()
    if isinstance(caller, NodeCaller):
        return TaskSight(performer=(caller.organization_id, caller.collaboration_id))
    if isinstance(caller, ContainerCaller):
        return TaskSight(run=(caller.task_id, caller.organization_id))
    seen = visibility(caller, resource)
    return TaskSight(
        everything=seen.everything,
        collaboration_ids=seen.collaboration_ids,
        initiator_ids=seen.organization_ids,
        user_id=seen.own_id,
    )


def _rules(caller: Caller) -> Rules:
    match caller:
        case UserCaller():
            return caller.rules
        case NodeCaller():
            return _NODE_RULES
        case ContainerCaller():
            return _CONTAINER_RULES
        case Anonymous():
            return {}


def _collaborations(caller: UserCaller | NodeCaller | ContainerCaller) -> frozenset[int]:
    return caller.collaboration_ids if isinstance(caller, UserCaller) else frozenset({caller.collaboration_id})
