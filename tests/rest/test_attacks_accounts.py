"""Attacks on accounts, each through gRPC and through REST, both behind the gateway (docs/security-tests.md)."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import jwt
import pytest

from vantage6.server.domain.secrets import WeakSecretError, check_secret, now
from vantage6.server.domain.totp import SECONDS, code_at
from vantage6.server.store.tables import Session

from .conftest import PASSWORD, Site
from .doors import Answer, Door, fresh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]

NEW = "a lost battery, found again"


async def reset_token(site: Site) -> str:
    await site.server.recovery.idle()
    found = re.search(r"^    (\S{43})$", site.mailbox.mails[-1][2], re.MULTILINE)
    assert found is not None
    return found.group(1)


async def switch_on(door: Door, who: str) -> bytes:
    """A second factor; returns its secret."""
    made = await door.call("Auth.CreateSecondFactor", who, password=PASSWORD)
    text = made["secret"]
    secret = base64.b32decode(text + "=" * (-len(text) % 8))
    code = code_at(secret, int(time.time()) // SECONDS - 1)
    assert (await door.call("Auth.ConfirmSecondFactor", who, mfa_code=code)).status == "OK"
    return secret


@pytest.mark.attack("CVE-2022-39228")
async def test_cve_2022_39228_unknown_wrong_and_locked_look_the_same(door: Door) -> None:
    known = await door.person("viewer")

    async def guess(name: str) -> tuple[str, str]:
        answer = await door.log_in(name, "wrong")
        return answer.status, answer.message.partition(";")[0]

    # At once: attempts are counted when they begin, so it does not matter how quick this machine is.
    answers = [set(await asyncio.gather(*(guess(name) for _ in range(9)))) for name in (known, fresh("nobody"))]
    assert answers[0] == answers[1]
    assert {status for status, _ in answers[0]} == {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}


@pytest.mark.attack("CVE-2023-22738")
async def test_cve_2023_22738_a_move_to_another_organization_strips_the_roles(door: Door) -> None:
    who, elsewhere = await door.person("researcher"), await door.organization()
    task = await door.task(who, door.site.collaboration_id, door.site.organizations[0])
    moved = await door.call("User.UpdateUser", "root", id=door.site.ids[who], organization_id=elsewhere)
    assert moved.status == "OK"
    left = await door.call("User.GetUser", "root", id=door.site.ids[who])
    assert not any(left.body.get(name) for name in ("roles", "role_names"))
    # The old token does not bring them back.
    assert (await door.task(who, door.site.collaboration_id, door.site.organizations[0])).status in {
        "NOT_FOUND", "PERMISSION_DENIED",
    }  # fmt: skip
    for rpc in ("Task.GetTask", "Task.DeleteTask", "Task.CancelTask"):
        assert (await door.call(rpc, who, id=task["id"])).status in {"NOT_FOUND", "PERMISSION_DENIED"}, rpc


@pytest.mark.attack("CVE-2023-22738")
async def test_cve_2023_22738_what_was_asked_for_before_a_move_stays_where_it_was(door: Door) -> None:
    """Also for one who gets a role at the new place, at once or later; and their old token is no way back."""
    site = door.site
    home, elsewhere = site.organizations[0], await door.organization()
    own = [{"resource": noun, "operation": what, "scope": "own"} for noun in ("task", "result", "event")
           for what in ("view", "edit", "delete")]  # fmt: skip
    role = fresh("role")
    assert (await door.call("Role.CreateRole", "root", name=role, rules=own, organization_id=elsewhere)).status == "OK"
    who = await door.person("researcher")
    task = await door.task(who, site.collaboration_id, home)
    (result,) = (await door.call("Result.ListResults", who, task_id=task["id"])).ids
    facts = {"size": 70_000, "sha256": base64.b64encode(bytes(32)).decode()}
    payload = (await door.call("Payload.CreatePayload", who, collaboration_id=site.collaboration_id, **facts))["id"]
    moved = await door.call("User.UpdateUser", "root", id=site.ids[who], organization_id=elsewhere, roles=role)
    assert moved.status == "OK"
    await door.log_in(who, PASSWORD)
    for rpc, id_ in (("Task.GetTask", task["id"]), ("Result.GetResult", result), ("Payload.GetPayload", payload),
                     ("Task.CancelTask", task["id"]), ("Task.DeleteTask", task["id"])):  # fmt: skip
        assert (await door.call(rpc, who, id=id_)).status == "NOT_FOUND", rpc
    for rpc in ("Task.ListTasks", "Result.ListResults"):
        assert (await door.call(rpc, who)).body == [], rpc
    # The organization that asked for it has it still.
    assert (await door.call("Task.GetTask", "researcher", id=task["id"]))["id"] == task["id"]


@pytest.mark.attack("CVE-2023-23929")
async def test_cve_2023_23929_every_token_ends_and_a_refresh_token_is_good_once(door: Door) -> None:
    who = await door.person("viewer")
    first = (await door.log_in(who, PASSWORD)).body
    node = (await door.call("Auth.CreateNodeToken", api_key=door.site.api_keys[0])).body
    for token in (*(pair[kind] for pair in (first, node) for kind in ("access_token", "refresh_token")),):
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["iat"] < claims["exp"] <= claims["iat"] + dt.timedelta(days=30).total_seconds()
    second = await door.call("Auth.RefreshToken", refresh_token=first["refresh_token"])
    again = await door.call("Auth.RefreshToken", refresh_token=first["refresh_token"])
    assert again.status == "UNAUTHENTICATED"
    # Somebody has a copy: the whole family ends.
    for token in (first["access_token"], second["access_token"]):
        door.site.tokens["family"] = token
        assert (await door.call("Task.ListTasks", "family")).status == "UNAUTHENTICATED"
    heir = await door.call("Auth.RefreshToken", refresh_token=second["refresh_token"])
    assert heir.status == "UNAUTHENTICATED"


async def kept(site: Site, token: str) -> httpx.Response:
    """As programs for 1.x refresh: in the header, and what comes back is an access token alone."""
    async with site.web() as web:
        return await web.post("/api/token/refresh", headers={"authorization": f"Bearer {token}"})


async def session_of(site: Site, token: str) -> Session:
    claims = jwt.decode(token, options={"verify_signature": False})
    async with site.server.database.read() as store:
        row = await store.accounts.session(claims["sid"])
    assert row is not None
    return row


@pytest.mark.attack("CVE-2023-23929")
async def test_cve_2023_23929_a_refresh_token_that_is_kept_does_not_last_longer(site: Site) -> None:
    async with site.door("rest") as door:
        who = await door.person("viewer")
        first = (await door.log_in(who, PASSWORD)).body
        began = await session_of(site, first["refresh_token"])
        for _ in range(3):
            answer = await kept(site, first["refresh_token"])
            assert (answer.status_code, answer.json().get("refresh_token")) == (200, None)
        site.tokens["kept"] = answer.json()["access_token"]
        assert (await door.call("Task.ListTasks", "kept")).status == "OK"
        assert (await session_of(site, first["refresh_token"])).expires_at == began.expires_at
        # Logging out, which ends the session, ends it too.
        assert (await door.call("Auth.RevokeToken", "kept")).status == "OK"
        assert (await kept(site, first["refresh_token"])).status_code == 401
        assert (await door.call("Task.ListTasks", "kept")).status == "UNAUTHENTICATED"
        # And so does its time.
        again = (await door.log_in(who, PASSWORD)).body
        async with site.server.database.write() as store:
            session = await store.accounts.session((await session_of(site, again["refresh_token"])).id)
            assert session is not None
            session.expires_at = now() - dt.timedelta(seconds=1)
        assert (await kept(site, again["refresh_token"])).status_code == 401


@pytest.mark.attack("CVE-2023-23929")
async def test_cve_2023_23929_no_token_is_kept_where_somebody_rotates(site: Site) -> None:
    """A thief who keeps a copy is found out as ever: the session ends with the first use of an old token."""
    async with site.door("rest") as door, site.door("grpc") as direct:
        who = await door.person("viewer")
        first = (await door.log_in(who, PASSWORD)).body
        assert (await kept(site, first["refresh_token"])).status_code == 200
        second = await door.call("Auth.RefreshToken", refresh_token=first["refresh_token"])
        assert second.status == "OK"
        # What came of a rotation cannot be kept: the header rotates it as well.
        third = (await kept(site, second["refresh_token"])).json()
        assert third["refresh_token"] not in {first["refresh_token"], second["refresh_token"]}
        assert (await kept(site, first["refresh_token"])).status_code == 401
        for token in (second["refresh_token"], third["refresh_token"]):
            assert (await kept(site, token)).status_code == 401
        # Neither can what our own clients get, who log in by gRPC, nor what a node gets.
        mine = (await direct.log_in(who, PASSWORD)).body
        node = (await door.call("Auth.CreateNodeToken", api_key=site.api_keys[0])).body
        for token in (mine["refresh_token"], node["refresh_token"]):
            assert (await kept(site, token)).json()["refresh_token"]
            assert (await kept(site, token)).status_code == 401
        # Nor does gRPC keep any.
        web = (await door.log_in(who, PASSWORD)).body
        site.tokens["header"] = web["refresh_token"]
        assert (await direct.call("Auth.RefreshToken", "header"))["refresh_token"]
        assert (await direct.call("Auth.RefreshToken", "header")).status == "UNAUTHENTICATED"


@pytest.mark.attack("CVE-2023-23929")
async def test_cve_2023_23929_an_expired_or_ended_token_opens_nothing(door: Door) -> None:
    who = await door.person("viewer")
    tokens = door.site.server.accounts._tokens
    claims = jwt.decode(door.site.tokens[who], options={"verify_signature": False})
    late = claims | {"exp": int(now().timestamp()) - 60}
    endless = {key: value for key, value in claims.items() if key != "exp"}
    for forged in (late, endless):
        door.site.tokens["late"] = jwt.encode(forged, tokens._secret, algorithm="HS256")
        assert (await door.call("Task.ListTasks", "late")).status == "UNAUTHENTICATED"
    assert (await door.call("Auth.RevokeToken", who)).status == "OK"
    assert (await door.call("Task.ListTasks", who)).status == "UNAUTHENTICATED"


@pytest.mark.attack("CVE-2024-21671")
async def test_cve_2024_21671_an_unknown_user_costs_the_same_work(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    known, passwords, work = await door.person("viewer"), door.site.server.passwords, list[str]()
    matches = passwords._matches

    def counted(password: str, password_hash: str) -> bool:
        work.append(password_hash.partition("$v=")[0])
        return matches(password, password_hash)

    monkeypatch.setattr(passwords, "_matches", counted)
    answers = [await door.log_in(name, "wrong") for name in (known, fresh("nobody"))]
    assert len({answer.words for answer in answers}) == 1
    assert work == ["$argon2id"] * 2, "one hash for each, whether there is an account or not"


@pytest.mark.attack("CVE-2024-24770")
async def test_cve_2024_24770_a_lost_password_tells_nothing_of_accounts(door: Door) -> None:
    who, before = await door.person("viewer"), len(door.site.mailbox.mails)
    answers = [await door.call("Auth.LosePassword", username=name) for name in (who, fresh("nobody"))]
    answers.append(await door.call("Auth.LosePassword", email=f"{fresh('nobody')}@x.example"))
    assert len({str(answer.body) for answer in answers}) == 1
    assert answers[0].status == "OK"
    await door.site.server.recovery.idle()
    assert [mail[0] for mail in door.site.mailbox.mails[before:]] == [f"{who}@x.example"]


@pytest.mark.attack("CVE-2024-24769")
async def test_cve_2024_24769_reset_mails_are_limited(door: Door) -> None:
    who, before = await door.person("viewer"), len(door.site.mailbox.mails)
    by_name = [(await door.call("Auth.LosePassword", username=who)).status for _ in range(6)]
    by_mail = [(await door.call("Auth.LosePassword", email=f"{who}@x.example")).status for _ in range(6)]
    assert by_name[:3] == ["OK"] * 3
    assert "RESOURCE_EXHAUSTED" in by_name
    assert "RESOURCE_EXHAUSTED" in by_mail
    await door.site.server.recovery.idle()
    assert len(door.site.mailbox.mails) - before == 3


@pytest.mark.attack("CVE-2024-27928")
async def test_cve_2024_27928_a_reset_does_not_lift_the_second_factor(door: Door) -> None:
    who = await door.person("viewer")
    secret = await switch_on(door, who)
    await door.call("Auth.LosePassword", username=who)
    token = await reset_token(door.site)
    assert (await door.call("Auth.ResetPassword", reset_token=token, password=NEW)).status == "OK"
    assert (await door.call("Auth.ResetPassword", reset_token=token, password=NEW)).status == "UNAUTHENTICATED"
    assert (await door.log_in(who, NEW)).reason == "SECOND_FACTOR_REQUIRED"
    code = code_at(secret, int(time.time()) // SECONDS + 1)
    assert (await door.log_in(who, NEW, mfa_code=code)).status == "OK"
    assert (await door.log_in(who, NEW, mfa_code=code)).status == "UNAUTHENTICATED"


def guess(door: Door, who: str, kind: str, number: int) -> Awaitable[Answer]:
    """One wrong attempt at one of the places that check a secret."""
    wrong, me = f"guess {number}", door.site.ids[who]
    update = partial(door.call, "User.UpdateUser", who, id=me, current_password=wrong)
    tries: dict[str, Callable[[], Awaitable[Answer]]] = {
        "log-in": partial(door.log_in, who, wrong),
        "code": partial(door.log_in, who, PASSWORD, mfa_code=f"{number:06d}"),
        "own password": partial(update, password=NEW),
        "own address": partial(update, email=f"{who}@evil.example"),
        "second factor": partial(door.call, "Auth.DeleteSecondFactor", who, password=wrong, mfa_code="000000"),
        "reset": partial(door.call, "Auth.ResetPassword", reset_token=wrong, password=NEW),
        "node": partial(door.call, "Auth.CreateNodeToken", api_key=wrong),
    }
    return tries[kind]()


@pytest.mark.attack("CVE-2025-43863")
@pytest.mark.parametrize("kind", ["log-in", "code", "own password", "own address", "second factor", "reset", "node"])
async def test_cve_2025_43863_every_place_that_checks_a_secret_has_a_brake(door: Door, kind: str) -> None:
    who = await door.person("viewer")
    if kind in {"code", "second factor"}:
        await switch_on(door, who)
    # At once: attempts are counted when they begin. Those with keys of nodes, which nobody can guess, when they fail.
    answers = [
        answer for _ in range(2)
        for answer in await asyncio.gather(*(guess(door, who, kind, number) for number in range(40)))
    ]  # fmt: skip
    statuses = {answer.status for answer in answers}
    assert statuses == {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
    throttled = next(answer for answer in answers if answer.status == "RESOURCE_EXHAUSTED")
    assert throttled.reason == "THROTTLED"
    assert int(throttled.facts["retry_after"]) >= 1


@pytest.mark.attack("CVE-2025-43863")
async def test_cve_2025_43863_a_stolen_token_changes_neither_password_nor_address(door: Door) -> None:
    """With the address, a thief would have the next password mailed to it."""
    who = await door.person("viewer")
    for change in ({"password": NEW}, {"email": f"{who}@evil.example"}):
        answer = await door.call("User.UpdateUser", who, id=door.site.ids[who], **change)
        assert (answer.status, answer.facts.get("field")) == ("UNAUTHENTICATED", "current_password")
    kept = await door.call("User.UpdateUser", who, id=door.site.ids[who], email=f"{who}@x.example", firstname="Ada")
    assert kept["firstname"] == "Ada"
    change = {"email": f"{who}@new.example", "current_password": PASSWORD}
    assert (await door.call("User.UpdateUser", who, id=door.site.ids[who], **change))["email"] == f"{who}@new.example"


@pytest.mark.attack("CVE-2026-54445")
async def test_cve_2026_54445_there_is_no_default_password(door: Door) -> None:
    for name in ("root", "admin", "vantage6"):
        for password in (name, "root", "password", "admin"):
            door.address = f"10.9.8.{len(name) + len(password)}"
            assert (await door.log_in(name, password)).status in {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}


@pytest.mark.attack("GHSA-m3mq-f375-5vgh")
async def test_ghsa_m3mq_no_token_is_signed_with_what_can_be_guessed(door: Door) -> None:
    who = await door.person("viewer")
    claims = jwt.decode(door.site.tokens[who], options={"verify_signature": False})
    # Version 1 of a UUID is clock and hardware address.
    for secret in ("secret" * 6, "x" * 64, str(uuid.uuid1()), uuid.uuid1().hex):
        with pytest.raises(WeakSecretError):
            check_secret(secret)
        door.site.tokens["forged"] = jwt.encode(claims, secret, algorithm="HS256")
        assert (await door.call("Task.ListTasks", "forged")).status == "UNAUTHENTICATED"
    assert len(set(door.site.server.accounts._tokens._secret)) >= 10


@pytest.mark.attack("X14")
async def test_x14_neither_a_header_nor_a_link_gets_into_a_mail(door: Door) -> None:
    link = f"https://evil.example/{fresh('click')}"
    home = (await door.call("Organization.CreateOrganization", "root", name=link))["id"]
    for email in ("a@b.example\nBcc: c@d.example", "a@b.example\r\n\r\nhello", "a@b.example, c@d.example", "<a@b.c>"):
        person = {"username": fresh("u"), "email": email, "password": PASSWORD, "organization_id": home}
        refused = await door.call("User.CreateUser", "root", **person)
        assert (refused.status, refused.facts["field"]) == ("INVALID_ARGUMENT", "email")
    person = {"username": link, "email": f"{fresh('v')}@x.example", "password": PASSWORD, "organization_id": home}
    made = await door.call("User.CreateUser", "root", firstname=link, **person)
    await door.call("Auth.LosePassword", username=link)
    await door.site.server.recovery.idle()
    to, subject, body = door.site.mailbox.mails[-1]
    assert to == made["email"]
    assert "evil" not in subject + body


async def test_a_session_is_listed_and_ended_through_either_door(door: Door) -> None:
    who = await door.person("viewer")
    other = (await door.log_in(who, PASSWORD))["access_token"]
    sessions = (await door.call("Auth.ListSessions", who)).body
    assert [session["current"] for session in sessions if session.get("current")] == [True]
    (stranger,) = [session for session in sessions if not session.get("current")]
    assert stranger["ip"] == door.address
    if door.kind == "rest":
        assert stranger["link"] == {
            "id": stranger["id"], "link": f"/api/session/{stranger['id']}", "methods": ["DELETE"],
        }  # fmt: skip
    assert (await door.call("Auth.DeleteSession", who, id=stranger["id"])).status == "OK"
    door.site.tokens["other"] = other
    assert (await door.call("Auth.ListSessions", "other")).status == "UNAUTHENTICATED"
    thief = await door.person("viewer")
    mine = (await door.call("Auth.ListSessions", who)).ids[0]
    assert (await door.call("Auth.DeleteSession", thief, id=mine)).status == "NOT_FOUND"
