"""PATCH changes what is given and nothing else; a body that names another thing than the path gets nobody further."""

from __future__ import annotations

from typing import Any

import pytest

from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.contract import bindings

from .conftest import KEY, PASSWORD, Site
from .doors import Door, fresh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

# Paths with a variable that a body can override, the variable, and a change that the caller may make to the own thing.
OVERRIDABLE: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("PATCH", "/api/organization/{id}"): ("id", {"domain": "new.example"}),
    ("PATCH", "/api/collaboration/{id}"): ("id", {"name": "taken over"}),
    ("PATCH", "/api/node/{id}"): ("id", {"name": "taken over"}),
    ("PATCH", "/api/user/{id}"): ("id", {"firstname": "Mallory"}),
    ("PATCH", "/api/role/{id}"): ("id", {"description": "taken over"}),
    ("POST", "/api/task/{id}/cancel"): ("id", {}),
    ("POST", "/api/node/{id}/api_key"): ("id", {}),
    ("POST", "/api/collaboration/{collaboration_id}/organization"): ("collaboration_id", {}),
    ("DELETE", "/api/collaboration/{collaboration_id}/organization"): ("collaboration_id", {}),
}


async def things(door: Door, home: int) -> dict[str, int]:
    """One of each in a collaboration of this organization alone."""
    study = await door.collaboration(home)
    node = (await door.call("Node.CreateNode", "root", collaboration_id=study, organization_id=home))["id"]
    who = await door.person("researcher", home)
    role = (await door.call("Role.CreateRole", "root", name=fresh("role"), organization_id=home))["id"]
    task = (await door.task(who, study, home))["id"]
    person = await door.person("viewer", home)
    return {"organization": home, "collaboration": study, "node": node, "user": door.site.ids[person], "role": role,
            "task": task}  # fmt: skip


async def picture(door: Door, thing: dict[str, int]) -> list[Any]:
    """All of it, as root sees it."""
    found = []
    for noun, number in thing.items():
        body = (await door.call(f"{noun.title()}.Get{noun.title()}", "root", id=number)).body
        found.append({name: value for name, value in body.items() if "seen" not in name and name != "ip"})
    return found


async def test_every_path_that_a_body_can_override_is_tried() -> None:
    """By construction: one that the contract gets later fails here."""
    found = {(b.method, b.path) for b in bindings(GatewayConfig(plaintext=True).descriptors) if b.body == "*"}
    assert {(verb, path) for verb, path in found if "{" in path} == OVERRIDABLE.keys()


@pytest.mark.attack("X10", "X05")
async def test_the_body_decides_and_so_do_the_rights(site: Site) -> None:
    """The transcoder lets the body win over the path: so the message alone counts, in both directions."""
    async with site.door("rest") as door:
        mine, theirs = [await things(door, await door.organization()) for _ in range(2)]
        admin = await door.person("organization_admin,collaboration_admin", mine["organization"])
        before = await picture(door, theirs)
        async with site.web(admin) as web:
            for (verb, path), (variable, change) in OVERRIDABLE.items():
                noun = path.split("/")[2]
                more = {"id": mine["organization"]} if variable == "collaboration_id" else {}
                own, foreign = path.replace(f"{{{variable}}}", str(mine[noun])), theirs[noun]
                answer = await web.request(verb, own, json={**change, **more, variable: foreign})
                assert answer.status_code in {403, 404}, (verb, path, answer.text)
            assert await picture(door, theirs) == before
            answer = await web.patch(f"/api/organization/{theirs['organization']}",
                                     json={"id": mine["organization"], "domain": "mine.example"})  # fmt: skip
            assert (answer.status_code, answer.json()["id"]) == (200, mine["organization"])
        assert await picture(door, theirs) == before


CHANGES: dict[str, dict[str, Any]] = {
    "organization": {
        "name": "", "domain": "a.example", "address1": "b", "address2": "c", "zipcode": "d", "country": "e",
        "public_key": KEY,
    },
    "user": {"username": "", "email": "", "firstname": "Ada", "lastname": "Lovelace", "roles": "viewer"},
    "role": {"name": "", "description": "for looking"},
    "node": {"name": ""},
    "collaboration": {"name": ""},
}  # fmt: skip
MAY_BE_EMPTY = {"domain", "address1", "address2", "zipcode", "country", "firstname", "lastname", "description", "roles"}


def value_of(field: str, template: str) -> str:
    return template or (f"{fresh('u')}@x.example" if field == "email" else fresh("name"))


@pytest.mark.row("M11")
@pytest.mark.row("M14")
@pytest.mark.parametrize("noun", CHANGES)
async def test_patch_changes_what_is_given_and_nothing_else(door: Door, noun: str) -> None:
    number = (await things(door, await door.organization()))[noun]
    update, get = f"{noun.title()}.Update{noun.title()}", f"{noun.title()}.Get{noun.title()}"
    for field, template in CHANGES[noun].items():
        before = (await door.call(get, "root", id=number)).body
        value = value_of(field, template)
        changed = (await door.call(update, "root", id=number, **{field: value})).body
        after = (await door.call(get, "root", id=number)).body
        shown = "role_names" if field == "roles" and door.kind == "grpc" else field
        assert after[shown] == changed[shown] == ([value] if shown == "role_names" else value), field
        assert {**before, shown: after[shown]} == after, field
    # Nothing given, nothing changed.
    assert (await door.call(update, "root", id=number)).status == "OK"
    assert (await door.call(get, "root", id=number)).body == after
    for field in MAY_BE_EMPTY & CHANGES[noun].keys():
        emptied = (await door.call(update, "root", id=number, **{field: ""})).body
        assert not emptied.get(field), field


async def test_a_role_loses_its_rules_only_when_told_to(door: Door) -> None:
    rule = {"resource": "task", "operation": "view", "scope": "organization"}
    fields = {"name": fresh("role"), "organization_id": door.site.organizations[0], "rules": [rule]}
    number = (await door.call("Role.CreateRole", "root", **fields))["id"]
    assert (await door.call("Role.UpdateRole", "root", id=number, rules=[]))["rules"] == [rule]
    assert (await door.call("Role.UpdateRole", "root", id=number, description="x"))["rules"] == [rule]
    assert not (await door.call("Role.UpdateRole", "root", id=number, clear_rules=True)).body.get("rules")


async def test_members_are_replaced_only_when_given(door: Door) -> None:
    a, b = await door.organization(), await door.organization()
    study = await door.collaboration(a, b)

    async def members(**fields: Any) -> set[int]:
        body = (await door.call("Collaboration.UpdateCollaboration", "root", id=study, **fields)).body
        return {one["id"] for one in body["organizations"]} if door.kind == "rest" else set(body["organization_ids"])

    assert await members(name=fresh("study")) == {a, b}
    assert await members(organization_ids=[a]) == {a}


async def test_null_and_unknown_fields_of_a_body_are_as_if_they_were_not_there(site: Site) -> None:
    """Documented in docs/rest.md: the transcoder does not see them."""
    async with site.web("root") as web:
        made = (await web.post("/api/organization", json={"name": fresh("org"), "domain": "a.example"})).json()
        path = f"/api/organization/{made['id']}"
        for body in ({"domain": None}, {"domian": "typo.example"}, {"encrypted": False}, {}):
            assert (await web.patch(path, json=body)).json()["domain"] == "a.example", body


async def test_what_cannot_be_changed_stays(door: Door) -> None:
    """Whether a collaboration is encrypted, and whose a node is, are no fields of an update."""
    person = {"username": fresh("u"), "email": f"{fresh('u')}@x.example", "password": PASSWORD, "roles": "viewer"}
    made = await door.call("User.CreateUser", "root", organization_id=door.site.organizations[0], **person)
    for field, value in (("email", ""), ("username", ""), ("email", "nobody"), ("username", "12")):
        answer = await door.call("User.UpdateUser", "root", id=made["id"], **{field: value})
        assert (answer.status, answer.facts.get("field")) == ("INVALID_ARGUMENT", field)
