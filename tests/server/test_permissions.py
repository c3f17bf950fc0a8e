"""The table of roles and the functions that read it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantage6.common.errors import NotFound, PermissionDenied, Unauthenticated
from vantage6.server.domain import permissions
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
from vantage6.server.domain.permissions import DEFAULT_ROLES, allows, holds, table_rules, visibility

resources, operations, scopes = (st.sampled_from(kind) for kind in (Resource, Operation, Scope))
ids = st.integers(1, 4)
collaborations = st.frozensets(ids, max_size=3)
rules = st.dictionaries(st.tuples(resources, operations), scopes)
users = st.builds(
    UserCaller,
    id=ids,
    username=st.just("ada"),
    organization_id=st.none() | ids,
    collaboration_ids=collaborations,
    session_id=st.just(1),
    rules=rules,
)
nodes = st.builds(
    NodeCaller, id=ids, name=st.just("node"), organization_id=ids, collaboration_id=ids, session_id=st.just(1)
)
containers = st.builds(
    ContainerCaller,
    result_id=ids, epoch=ids, task_id=ids, node_id=ids, organization_id=ids, collaboration_id=ids,
    image=st.just("image"),
)  # fmt: skip
places = st.fixed_dictionaries(
    {"own": st.booleans(), "organization_id": st.none() | ids, "collaboration_ids": collaborations}
)


def caller_with(found: Rules, **more: object) -> UserCaller:
    facts: dict[str, object] = {"organization_id": 1, "collaboration_ids": frozenset({1})}
    return UserCaller(id=1, username="ada", session_id=1, rules=found, **{**facts, **more})  # type: ignore[arg-type]


@given(users, resources, operations, places, scopes)
def test_a_wider_scope_never_takes_away(
    user: UserCaller, resource: Resource, operation: Operation, place: dict[str, object], scope: Scope
) -> None:
    narrow = caller_with(
        {(resource, operation): scope}, organization_id=user.organization_id, collaboration_ids=user.collaboration_ids
    )
    if not allows(narrow, resource, operation, **place):  # type: ignore[arg-type]
        return
    for wider in (wider for wider in Scope if wider >= scope):
        wide = caller_with(
            {(resource, operation): wider},
            organization_id=user.organization_id,
            collaboration_ids=user.collaboration_ids,
        )
        assert allows(wide, resource, operation, **place)  # type: ignore[arg-type]


@given(users, resources, operations, places)
def test_what_no_rule_names_is_forbidden(
    user: UserCaller, resource: Resource, operation: Operation, place: dict[str, object]
) -> None:
    if (resource, operation) not in user.rules:
        assert not allows(user, resource, operation, **place)  # type: ignore[arg-type]


@given(users, resources, operations, st.none() | ids, collaborations)
def test_strangers_things_need_the_global_scope(
    user: UserCaller, resource: Resource, operation: Operation, organization: int | None, within: frozenset[int]
) -> None:
    if organization == user.organization_id or not within.isdisjoint(user.collaboration_ids):
        return
    allowed = allows(user, resource, operation, organization_id=organization, collaboration_ids=within)
    assert allowed == (user.rules.get((resource, operation)) is Scope.GLOBAL)


@pytest.mark.attack
@given(nodes | containers, resources, operations, places)
def test_nodes_and_containers_never_leave_their_collaboration(
    caller: NodeCaller | ContainerCaller, resource: Resource, operation: Operation, place: dict[str, object]
) -> None:
    within = place["collaboration_ids"]
    assert isinstance(within, frozenset)
    if within and caller.collaboration_id not in within:
        assert not allows(caller, resource, operation, **place)  # type: ignore[arg-type]


@given(users | nodes | containers, resources, places)
def test_lists_show_what_single_views_show(caller: Caller, resource: Resource, place: dict[str, object]) -> None:
    seen = visibility(caller, resource)
    assert not isinstance(caller, Anonymous)
    within = place["collaboration_ids"]
    assert isinstance(within, frozenset)
    if seen.within is not None and not within:
        return  # Things of no collaboration are judged by their organization alone.
    listed = seen.everything or (
        bool(place["own"] and permissions.scope_of(caller, resource, Operation.VIEW))
        or place["organization_id"] in seen.organization_ids
        or not within.isdisjoint(seen.collaboration_ids)
    )
    if seen.within is not None:
        listed = listed and seen.within in within
    assert listed == allows(caller, resource, Operation.VIEW, **place)  # type: ignore[arg-type]


@given(rules, rules)
def test_who_holds_more_may_do_more(held: Rules, wanted: Rules) -> None:
    if holds(held, wanted):
        assert all(held[key] >= scope for key, scope in wanted.items())
    assert holds(held, {})
    assert holds(held, held)
    assert holds(held, wanted, elsewhere=True) <= holds(held, wanted)


def test_root_may_do_everything_and_holds_every_role() -> None:
    root = table_rules(DEFAULT_ROLES["root"][1])
    assert root == dict.fromkeys(itertools.product(Resource, Operation), Scope.GLOBAL)
    for _, grants in DEFAULT_ROLES.values():
        assert holds(root, table_rules(grants), elsewhere=True)


def test_no_role_but_root_reaches_everything() -> None:
    for name, (_, grants) in DEFAULT_ROLES.items():
        assert (Scope.GLOBAL in table_rules(grants).values()) == (name == "root")


def test_no_role_but_root_promises_keys_for_the_nodes_of_others() -> None:
    """The code would not keep it: domain/nodes.py."""
    for name, (_, grants) in DEFAULT_ROLES.items():
        reach = table_rules(grants).get((Resource.NODE, Operation.CREATE), Scope.OWN)
        assert (reach > Scope.ORGANIZATION) == (name == "root")


def test_an_organization_admin_can_make_researchers_and_no_collaboration_admins() -> None:
    admin = table_rules(DEFAULT_ROLES["organization_admin"][1])
    able = {name for name, (_, grants) in DEFAULT_ROLES.items() if holds(admin, table_rules(grants))}
    assert able == {"organization_admin", "researcher", "viewer"}


def test_viewers_change_nothing() -> None:
    assert {operation for _, operation in table_rules(DEFAULT_ROLES["viewer"][1])} == {Operation.VIEW}


def test_refusals_do_not_tell_what_exists() -> None:
    nobody = caller_with({})
    with pytest.raises(NotFound) as hidden:
        permissions.require_view(nobody, Resource.TASK, 7, collaboration_ids=[1])
    assert str(hidden.value) == str(permissions.missing(Resource.TASK, 7))
    with pytest.raises(PermissionDenied):
        permissions.require(nobody, Resource.TASK, Operation.DELETE)
    with pytest.raises(Unauthenticated):
        permissions.require(Anonymous(), Resource.TASK, Operation.DELETE)
