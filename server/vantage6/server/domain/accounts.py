"""Log-in and sessions of users and nodes, and the tokens of containers."""

from __future__ import annotations

import datetime as dt
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vantage6.common.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    SecondFactorRequired,
    Unauthenticated,
)
from vantage6.server.domain.audit import about
from vantage6.server.domain.caller import Caller, ContainerCaller, NodeCaller, Resource, UserCaller
from vantage6.server.domain.permissions import missing, require_user, rules_of
from vantage6.server.domain.second_factor import CodeBook
from vantage6.server.domain.secrets import Passwords, Tokens, hash_token, now
from vantage6.server.domain.states import OPEN
from vantage6.server.store.tables import Node, Result, Session, Task, User

if TYPE_CHECKING:
    from vantage6.server.domain.throttle import Throttle
    from vantage6.server.store.accounts import NodeInSession, UserInSession
    from vantage6.server.store.bulk import Moving
    from vantage6.server.store.pages import Page, Slice
    from vantage6.server.store.sql import Database, Store

WRONG = "Wrong name, password or code."


@dataclass(frozen=True)
class Login:
    """Tokens of one session; `kind` is "user" or "node". No refresh token: the one before stays good."""

    kind: str
    owner_id: int
    access_token: str
    refresh_token: str
    expires_in: int


class AccountRules:
    def __init__(self, database: Database, tokens: Tokens, passwords: Passwords, throttle: Throttle) -> None:
        self._database = database
        self._tokens = tokens
        self._passwords = passwords
        self._throttle = throttle
        self.codes = CodeBook(tokens)

    # --- log-in

    async def login_user(
        self, username: str, password: str, peer: str, code: str = "", *, keeps: bool = False
    ) -> Login:
        """The same answer and the same work for an unknown name and a wrong password. `keeps`: see `refresh`."""
        account = f"user:{username.lower()}"
        self._throttle.check(account, peer)
        # Counted before the work is done: a hundred attempts at once are a hundred failures.
        self._throttle.failed(account, peer)
        async with self._database.read() as store:
            user = await store.accounts.user_by_name(username)
        about(f"user:{user.id}" if user else "")
        good = await self._passwords.check(password, user.password_hash if user else None)
        if user is None or not good:
            raise Unauthenticated(WRONG)
        async with self._database.write() as store:
            known = await store.accounts.user(user.id)
            if known is None or known.password_hash != user.password_hash:
                raise Unauthenticated(WRONG)
            factor = await store.security.second_factor(user.id)
            if factor is not None and factor.confirmed:
                if not code:
                    self._throttle.undone(account, peer)
                    raise SecondFactorRequired("mfa_code: is required, as well as the password.", field="mfa_code")
                if not await self.codes.accepts(store, factor, code):
                    raise Unauthenticated(WRONG)
            known.last_seen, known.ip = now(), peer
            login = await self._open(store, known, peer, keeps=keeps)
        self._throttle.succeeded(account, peer)
        return login

    async def login_node(self, api_key: str, peer: str) -> Login:
        self._throttle.check("", peer)
        async with self._database.write() as store:
            # Found by the hash of 256 random bits: how long a look-up takes tells nothing about them.
            node = await store.parties.node_by_api_key(hash_token(api_key)) if api_key else None
            if node is not None:
                about(f"node:{node.id}")
                node.ip = peer
                return await self._open(store, node, peer)
        self._throttle.failed("", peer)
        raise Unauthenticated("Api key is not recognised!")

    async def _open(self, store: Store, owner: User | Node, peer: str, *, keeps: bool = False) -> Login:
        """Adds a session; it needs its id before its refresh token can be made."""
        time = now()
        await store.accounts.forget_sessions(time)
        session = Session(
            user_id=owner.id if isinstance(owner, User) else None,
            node_id=owner.id if isinstance(owner, Node) else None,
            refresh_hash=hash_token(self._tokens.refresh("new", owner.id, 0)),
            created_at=time,
            last_used_at=time,
            expires_at=time + self._tokens.lifetimes.refresh,
            ip=peer,
        )
        await store.accounts.add_session(session)
        return self._renew(session, owner, keeps=keeps)

    def _renew(self, session: Session, owner: User | Node, *, keeps: bool = False) -> Login:
        """New tokens for a session; the refresh token before is spent."""
        kind = _kind(owner)
        refresh = self._tokens.refresh(kind, owner.id, session.id, keeps=keeps)
        session.refresh_hash = hash_token(refresh)
        return Login(kind, owner.id, self._access(owner, session.id), refresh, self.access_seconds)

    def _access(self, owner: User | Node, session_id: int) -> str:
        roles = [role.name for role in owner.roles] if isinstance(owner, User) else []
        return self._tokens.access(_kind(owner), owner.id, session_id, roles)

    @property
    def access_seconds(self) -> int:
        return int(self._tokens.lifetimes.access.total_seconds())

    async def refresh(self, token: str, peer: str, *, keep: bool = False) -> Login:
        """Each refresh token is good once; a second use means that somebody has a copy, so both lose the session.

        Programs for 1.x keep the one of their log-in. `keep` leaves it good and makes an access token alone, and the
        session ends when it was to end at the log-in. Only tokens that say so can be kept: those of a log-in by REST,
        until somebody rotates them. From then on the session is like any other, and the one that was kept is a copy.
        """
        claims = self._tokens.read(token, "refresh")
        about(str(claims["sub"]))
        keep = keep and claims.get("keeps") is True
        async with self._database.write() as store:
            session = await store.accounts.session(claims["sid"], locked=True)
            login = None if session is None else await self._refreshed(store, session, token, peer, keep=keep)
        # Raised after the commit: the revocation has to last.
        if login is None:
            raise Unauthenticated("The session has ended; log in again.")
        return login

    async def _refreshed(self, store: Store, session: Session, token: str, peer: str, *, keep: bool) -> Login | None:
        if session.revoked or session.expires_at <= now():
            return None
        if not hmac.compare_digest(session.refresh_hash, hash_token(token)):
            session.revoked = True
            store.rights_changed(session.user_id)
            return None
        owner = await _owner(store, session)
        if owner is None:
            return None
        time = now()
        session.last_used_at, session.ip = time, peer
        if keep:
            return Login(_kind(owner), owner.id, self._access(owner, session.id), "", self.access_seconds)
        session.expires_at = time + self._tokens.lifetimes.refresh
        return self._renew(session, owner)

    async def renew_in_stream(self, node: NodeCaller) -> tuple[str, int]:
        """A fresh access token for a connected node, and the seconds that it lasts.

        Who is connected shows its refresh token to nobody, so its session is prolonged here, once half of it is over.
        """
        async with self._database.read() as store:
            found = await store.accounts.node_in_session(node.id, node.session_id)
        if found is None:
            raise Unauthenticated("The session has ended; log in again.")
        _check_session(found)
        if found.expires_at - now() < self._tokens.lifetimes.refresh / 2:
            async with self._database.write() as store:
                session = await store.accounts.session(node.session_id)
                if session is not None:
                    session.expires_at, session.last_used_at = now() + self._tokens.lifetimes.refresh, now()
        return self._tokens.access("node", node.id, node.session_id, []), self.access_seconds

    # --- sessions

    async def revoke(self, caller: Caller) -> None:
        """Ends the caller's session."""
        if not isinstance(caller, UserCaller | NodeCaller):
            raise PermissionDenied("Only users and nodes have sessions.")
        async with self._database.write() as store:
            session = await store.accounts.session(caller.session_id)
            if session is not None:
                session.revoked = True
                store.rights_changed(session.user_id)

    async def list_sessions(self, caller: Caller, page: Page) -> Slice[Session]:
        user = require_user(caller)
        async with self._database.read() as store:
            return await store.accounts.sessions_of_user(user.id, now(), page)

    async def delete_session(self, caller: Caller, session_id: int) -> None:
        user = require_user(caller)
        async with self._database.write() as store:
            session = await store.accounts.session(session_id)
            if session is None or session.user_id != user.id or session.revoked:
                raise NotFound(f"You have no session with id {session_id}.")
            session.revoked = True
            store.rights_changed(user.id)

    # --- containers

    def issue_container_token(self, result: Result | Moving, task: Task, node_id: int) -> str:
        """For the run that is `result.epoch`; good until the result is final or assigned anew."""
        return self._tokens.container(result.id, {
            "type": "container", "node_id": node_id, "organization_id": result.organization_id,
            "collaboration_id": task.collaboration_id, "task_id": task.id, "result_id": result.id,
            "epoch": result.epoch, "image": task.image,
        })  # fmt: skip

    async def create_container_token(self, caller: Caller, result_id: int, task_id: int, image: str) -> str:
        """As in 1.x, for a node that did not keep the one of the assignment."""
        if not isinstance(caller, NodeCaller):
            raise PermissionDenied("Only nodes may make tokens for containers.")
        async with self._database.read() as store:
            result, task = await _run_of(store, caller, result_id, task_id)
        if result.state not in OPEN:
            raise FailedPrecondition("The result is final; no container can run for it any more.")
        if task.image != image:
            raise FailedPrecondition(f"image: the task's image is '{task.image}'.", field="image")
        return self.issue_container_token(result, task, caller.id)

    # --- who is calling

    async def identify(self, token: str) -> Caller:
        claims = self._tokens.read(token, "access")
        kind, _, _ = str(claims["sub"]).partition(":")
        until = dt.datetime.fromtimestamp(claims["exp"], dt.UTC)
        async with self._database.read() as store:
            match kind:
                case "user":
                    return replace(await _user(store, claims), until=until)
                case "node":
                    return await _node(store, claims)
                case "container":
                    return replace(await _container(store, claims["identity"]), until=until)
        raise Unauthenticated("This is no token of this server.")

    async def again(self, caller: Caller) -> Caller:
        """A caller as it stands now; raises Unauthenticated when its session or run has ended meanwhile."""
        async with self._database.read() as store:
            if isinstance(caller, UserCaller):
                return await _user(store, {"identity": caller.id, "sid": caller.session_id})
            if isinstance(caller, ContainerCaller):
                return await _container(store, vars(caller))
        return caller


def _kind(owner: User | Node) -> str:
    return "user" if isinstance(owner, User) else "node"


async def _owner(store: Store, session: Session) -> User | Node | None:
    if session.user_id is not None:
        return await store.accounts.user(session.user_id)
    return None if session.node_id is None else await store.parties.node(session.node_id)


async def _run_of(store: Store, node: NodeCaller, result_id: int, task_id: int) -> tuple[Result, Task]:
    """The result, or the one of the task, if it is this node's to run (X02: organization and collaboration)."""
    result = None
    if result_id:
        result = await store.results.get(result_id)
    else:
        of_task = await store.results.of_tasks([task_id])
        result = next((row for row in of_task if row.organization_id == node.organization_id), None)
    task = None if result is None else await store.tasks.get(result.task_id)
    if result is None or task is None:
        raise missing(Resource.RESULT, result_id or f"of task {task_id}")
    if (result.organization_id, task.collaboration_id) != (node.organization_id, node.collaboration_id):
        raise missing(Resource.RESULT, result_id)
    return result, task


def _check_session(session: UserInSession | NodeInSession) -> None:
    if session.revoked or session.expires_at <= now():
        raise Unauthenticated("The session has ended; log in again.")


async def _user(store: Store, claims: dict[str, Any]) -> UserCaller:
    found = await store.accounts.user_in_session(claims["identity"], claims["sid"])
    if found is None:
        raise Unauthenticated("The session has ended; log in again.")
    _check_session(found)
    return UserCaller(
        found.id, found.username, found.organization_id, found.collaboration_ids, claims["sid"], rules_of(found.rules)
    )


async def _node(store: Store, claims: dict[str, Any]) -> NodeCaller:
    found = await store.accounts.node_in_session(claims["identity"], claims["sid"])
    if found is None:
        raise Unauthenticated("The session has ended; log in again.")
    _check_session(found)
    return NodeCaller(found.id, found.name, found.organization_id, found.collaboration_id, claims["sid"])


async def _container(store: Store, identity: dict[str, Any]) -> ContainerCaller:
    """A container's token ends with its run (X03)."""
    result = await store.results.get(identity["result_id"])
    if result is None or result.state not in OPEN or result.epoch != identity["epoch"]:
        raise Unauthenticated("The run of this container has ended.")
    return ContainerCaller(
        result_id=result.id,
        epoch=result.epoch,
        task_id=result.task_id,
        node_id=identity["node_id"],
        organization_id=result.organization_id,
        collaboration_id=identity["collaboration_id"],
        image=identity["image"],
    )
