"""`vserver import`: organizations, people, collaborations and nodes from a file, in one transaction.

What is there by its name stays as it is, so a file can be imported again after it has grown; what differs is told.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from vantage6.common.errors import InvalidArgument, NotFound
from vantage6.server.domain.checks import check_email, check_public_key, check_text, check_username
from vantage6.server.domain.secrets import Passwords, check_password_strength, hash_token, new_secret
from vantage6.server.store.tables import Collaboration, Node, Organization, User

if TYPE_CHECKING:
    from vantage6.server.store.sql import Database, Store


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class UserFixture(_Section):
    username: StrictStr
    email: StrictStr
    password: StrictStr
    firstname: str = ""
    lastname: str = ""
    roles: str = ""
    """Names, separated by commas."""


class OrganizationFixture(_Section):
    name: StrictStr
    domain: str | None = None
    address1: str | None = None
    address2: str | None = None
    zipcode: str | int | None = None
    country: str | None = None
    public_key: str | None = None
    """PEM, or the base64 of it as in 1.x."""
    users: list[UserFixture] = []


class Participant(_Section):
    name: StrictStr
    api_key: StrictStr | None = Field(None, alias="api-key")
    """Of the organization's node; one is made and told if it is left out."""


class CollaborationFixture(_Section):
    name: StrictStr
    encrypted: bool = True
    participants: list[StrictStr | Participant] = []


class Fixtures(_Section):
    """The whole file."""

    organizations: list[OrganizationFixture] = []
    collaborations: list[CollaborationFixture] = []


@dataclass
class Outcome:
    """What was done: lines for people, and the API keys that were made."""

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    api_keys: dict[str, str] = field(default_factory=dict)


async def import_fixtures(database: Database, passwords: Passwords, fixtures: Fixtures) -> Outcome:
    """All or nothing; raises InvalidArgument or NotFound with the name of what is wrong."""
    hashes = {user.username: await _hash(passwords, user) for each in fixtures.organizations for user in each.users}
    outcome = Outcome()
    async with database.write() as store:
        for each in fixtures.organizations:
            row = await _organization(store, each, outcome)
            for user in each.users:
                await _user(store, user, row, hashes[user.username], outcome)
        for collaboration in fixtures.collaborations:
            await _collaboration(store, collaboration, outcome)
    return outcome


async def _hash(passwords: Passwords, user: UserFixture) -> str:
    """Before the transaction: it takes long on purpose."""
    try:
        check_username(user.username)
        check_password_strength(user.password, user.username, check_email(user.email))
    except InvalidArgument as error:
        raise InvalidArgument(f"user {user.username!r}: {error.message}") from error
    return await passwords.hash(user.password)


async def _organization(store: Store, given: OrganizationFixture, outcome: Outcome) -> Organization:
    what = f"organization {given.name!r}"
    fields = {
        name: str(value)
        for name in ("domain", "address1", "address2", "zipcode", "country")
        if (value := getattr(given, name)) is not None
    }
    try:
        check_text("name", given.name, 128, required=True)
        for name, text in fields.items():
            check_text(name, text, 253)
        key = check_public_key(_pem(given.public_key))
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error.message}") from error
    row = await store.parties.organization_by_name(given.name)
    if row is None:
        outcome.made.append(what)
        return await store.parties.add_organization(Organization(name=given.name, **fields, public_key=key))
    other = [name for name, text in fields.items() if getattr(row, name) != text]
    other += ["public_key"] if key and row.public_key != key else []
    _told(what, other, outcome)
    return row


def _told(what: str, other: list[str], outcome: Outcome) -> None:
    if other:
        outcome.different.append(f"{what} is there already, with another {', '.join(other)}; it was left alone")
    else:
        outcome.present.append(what)


def _pem(text: str | None) -> bytes:
    if not text:
        return b""
    if text.lstrip().startswith("-----"):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidArgument("public_key: it is neither PEM nor base64", field="public_key") from error


async def _user(store: Store, given: UserFixture, home: Organization, password: str, outcome: Outcome) -> None:
    what = f"user {given.username!r}"
    email = check_email(given.email)
    row = await store.accounts.user_by_name(given.username)
    if row is not None:
        other = [name for name in ("firstname", "lastname") if getattr(row, name) != getattr(given, name)]
        other += ["email"] if row.email != email else []
        other += ["organization"] if row.organization_id != home.id else []
        _told(what, other, outcome)
        return
    if await store.accounts.user_by_email(email) is not None:
        raise InvalidArgument(f"{what}: the email address {email} is another user's")
    names = [name.strip() for name in given.roles.split(",") if name.strip()]
    roles = await store.accounts.roles_by_name(names, home.id)
    if unknown := [name for name in names if name not in roles]:
        raise NotFound(f"{what}: there is no role {', '.join(unknown)}")
    made = User(
        username=given.username, email=email, password_hash=password, firstname=given.firstname,
        lastname=given.lastname, organization_id=home.id, roles=[roles[name] for name in names],
    )  # fmt: skip
    await store.accounts.add_user(made)
    outcome.made.append(what)


async def _collaboration(store: Store, given: CollaborationFixture, outcome: Outcome) -> None:
    what = f"collaboration {given.name!r}"
    check_text("name", given.name, 128, required=True)
    row = await store.parties.collaboration_by_name(given.name)
    if row is None:
        row = await store.parties.add_collaboration(Collaboration(name=given.name, encrypted=given.encrypted))
        outcome.made.append(what)
    else:
        _told(what, ["encrypted"] if row.encrypted != given.encrypted else [], outcome)
    for each in given.participants:
        participant = each if isinstance(each, Participant) else Participant.model_validate({"name": each})
        organization = await store.parties.organization_by_name(participant.name)
        if organization is None:
            raise NotFound(f"{what}: there is no organization {participant.name!r}, neither here nor in the file")
        if not await store.parties.is_member(organization.id, row.id):
            await store.parties.add_members(row.id, [organization.id])
            outcome.made.append(f"{participant.name!r} is a member of {what}")
        await _node(store, participant, organization, row, outcome)


async def _node(
    store: Store, given: Participant, organization: Organization, collaboration: Collaboration, outcome: Outcome
) -> None:
    name = f"{organization.name} - {collaboration.name} Node"
    row = await store.parties.node_of(organization.id, collaboration.id)
    if row is not None:
        other = ["api-key"] if given.api_key and row.api_key_hash != hash_token(given.api_key) else []
        _told(f"node {row.name!r}", other, outcome)
        return
    api_key = given.api_key or new_secret()
    if given.api_key is None:
        outcome.api_keys[name] = api_key
    await store.parties.add_node(
        Node(
            name=name,
            api_key_hash=hash_token(api_key),
            organization_id=organization.id,
            collaboration_id=collaboration.id,
        )
    )
    outcome.made.append(f"node {name!r}")
