"""Nobody grants what they do not hold: random rights against an oracle, through the real rules and tables."""

from __future__ import annotations

import random
from typing import Any

import pytest

from vantage6.common.errors import PermissionDenied, Vantage6Error
from vantage6.server.domain.caller import Operation, Resource, Rules, Scope, UserCaller
from vantage6.server.domain.people import NewUser, UserChange, UserRules
from vantage6.server.domain.roles import RoleRules, RuleText

from .conftest import Hospitals
from .live import PASSWORD

CASES = 25
EVERYTHING = [(resource, operation) for resource in Resource for operation in Operation]
# What lets one grant at all; the rest of the rights is random.
KEEPER: Rules = {
    (Resource.USER, Operation.VIEW): Scope.GLOBAL,
    (Resource.USER, Operation.CREATE): Scope.GLOBAL,
    (Resource.USER, Operation.EDIT): Scope.GLOBAL,
    (Resource.ROLE, Operation.CREATE): Scope.GLOBAL,
    (Resource.ROLE, Operation.EDIT): Scope.GLOBAL,
    (Resource.ROLE, Operation.VIEW): Scope.GLOBAL,
}


def some_rules(chance: random.Random, most: int) -> Rules:
    return {key: chance.choice(list(Scope)) for key in chance.sample(EVERYTHING, chance.randint(1, most))}


def texts(rules: Rules) -> list[RuleText]:
    return [(resource.value, operation.value, scope.name.lower()) for (resource, operation), scope in rules.items()]


def may_grant(held: Rules, wanted: Rules, *, at_home: bool) -> bool:
    """The oracle. Elsewhere the narrower scopes mean other people's things, so only the global one holds them."""
    for key, scope in wanted.items():
        reach = held.get(key)
        if reach is None or reach < (scope if at_home else Scope.GLOBAL):
            return False
    return True


async def granted(call: Any) -> bool:
    try:
        await call
    except PermissionDenied:
        return False
    return True


@pytest.mark.attack("X05")
@pytest.mark.parametrize("seed", [1, 2])
async def test_nobody_grants_what_they_do_not_hold(hospitals: Hospitals, seed: int) -> None:
    chance, live = random.Random(seed), hospitals.live
    roles, users = RoleRules(live.database), UserRules(live.database, live.passwords, live.throttle)
    root = UserCaller(1, "root", None, frozenset(), 0, dict.fromkeys(EVERYTHING, Scope.GLOBAL))
    outcomes = set()
    for number in range(CASES):
        home = hospitals.a if chance.random() < 0.6 else hospitals.b
        held = some_rules(chance, len(EVERYTHING)) | KEEPER
        keeper = UserCaller(
            hospitals.users["nobody_a"], "nobody_a", hospitals.a, frozenset({hospitals.shared}), 0, held
        )
        # Half of the time what is wanted was drawn from what is held.
        wanted = some_rules(chance, 4)
        if chance.random() < 0.5:
            wanted = {key: Scope(chance.randint(1, held[key])) for key in wanted if key in held}
        expected = may_grant(held, wanted, at_home=home == hospitals.a)
        name = f"role {seed} {number}"
        assert await granted(roles.create(keeper, name, "", texts(wanted), home)) == expected, (held, wanted)
        known = await roles.create(root, f"{name} of root", "", texts(wanted), home)
        empty = await roles.create(root, f"{name} empty", "", [], home)
        assert await granted(roles.update(keeper, empty.row.id, None, None, texts(wanted))) == expected
        person = NewUser(f"u{seed}-{number}", f"u{seed}-{number}@x.example", PASSWORD, roles=known.row.name,
                         organization_id=home)  # fmt: skip
        assert await granted(users.create(keeper, person)) == expected
        plain = await users.create(root, NewUser(f"p{seed}-{number}", f"p{seed}-{number}@x.example", PASSWORD,
                                                 organization_id=home))  # fmt: skip
        change = UserChange(roles=known.row.name)
        assert await granted(users.update(keeper, plain.id, change, "")) == expected
        # And whoever holds more than the keeper is not the keeper's to change.
        above = await users.update(root, plain.id, change, "")
        assert await granted(users.update(keeper, above.id, UserChange({"firstname": "x"}), "")) == expected
        outcomes.add(expected)
    assert outcomes == {True, False}


async def test_a_name_of_a_default_role_cannot_be_taken_to_hide_it(hospitals: Hospitals) -> None:
    roles = RoleRules(hospitals.live.database)
    root = UserCaller(1, "root", None, frozenset(), 0, dict.fromkeys(EVERYTHING, Scope.GLOBAL))
    for name in ("root", "researcher"):
        with pytest.raises(Vantage6Error, match="there is a role"):
            await roles.create(root, name, "", [], hospitals.a)
