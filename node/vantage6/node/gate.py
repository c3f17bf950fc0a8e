"""What one run has to pass at this site, from its arrival to what it leaves; each decision goes into the audit log."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import structlog

from vantage6.common.errors import PermissionDenied
from vantage6.node import states
from vantage6.node.audit import Audit, AuditBroken, records
from vantage6.node.disclosure import Disclosure, Released
from vantage6.node.policy import Policy, Refused
from vantage6.node.room import with_room
from vantage6.node.signatures import Signatures

if TYPE_CHECKING:
    from vantage6.api.v1.delivery_pb2 import Assignment
    from vantage6.node.states import State

log = structlog.get_logger(__name__)

READABLE = 64 * 1024 * 1024
"""Bytes of an input or output that a rule is shown; what is larger is refused where a rule has to see it."""
DAY = 24 * 3600.0
_PIECE = 1024 * 1024


class Gate:
    """Policy, disclosure and audit of one site."""

    def __init__(
        self, policy: Policy, disclosure: Disclosure, audit: Audit, signatures: Signatures | None = None
    ) -> None:
        self.policy = policy
        self.disclosure = disclosure
        self.audit = audit
        self.signatures = signatures
        self._methods: dict[tuple[int, int], str] = {}
        self._left: dict[str, deque[float]] = {}

    def load(self) -> None:
        """Counts again what has left during the last day; blocks."""
        if self.policy.outputs_per_day is None or not self.audit.path.exists():
            return
        try:
            for record in records(self.audit.path):
                if record.get("event") == "left" and record.get("what") == "output":
                    moment = _moment(str(record["time"]))
                    if moment > time.time() - DAY:
                        self._left.setdefault(str(record.get("user")), deque()).append(moment)
        except AuditBroken:
            return  # `vnode audit verify` says where; the count begins with what could be read.

    async def asked(self, run: Assignment) -> None:
        """May it run at all? Raises Refused."""
        await self._write("asked", run, image=run.image, databases=list(run.databases), task_name=run.task_name)
        self.policy.check(run)
        self._check_count(run)

    async def opened(self, run: Assignment, path: Path, vouched: bool | None) -> None:
        """The input lies opened in a file: is it for this task, which method does it ask for, and may that run?"""
        self.policy.check_vouched(vouched)
        method = await asyncio.to_thread(_method_of, path)
        self._methods[_key(run)] = method or ""
        self.policy.check_method(method)

    async def taken_up(self, run: Assignment, path: Path) -> None:
        """An earlier life of the node has let it in; the opened input, which runs cannot write, says its method again.

        Where it does not, the method stays unknown, and then every rule of disclosure concerns the run.
        """
        try:
            method = await asyncio.to_thread(_method_of, path)
            self._methods[_key(run)] = method or ""
        except OSError as error:
            log.warning("input_not_read_again", result_id=run.result_id, epoch=run.epoch, error=str(error))

    async def found(self, run: Assignment, digest: str) -> None:
        """The image is here; raises Refused when it is not the allowed one."""
        by = {}
        if self.signatures and not self.policy.lists(digest):
            by = {"signed_with": await asyncio.to_thread(self.signatures.check, run.image, digest)}
        else:
            self.policy.check_digest(run.image, digest)
        method = self._methods.get(_key(run), "")
        await self._write("allowed", run, image=run.image, digest=digest, method=method, **by)

    async def leaves(self, run: Assignment, output: BinaryIO) -> None:
        """The output, before it is sealed; the stream is at its beginning before and after."""
        size, digest = await asyncio.to_thread(_measure, output)
        self.policy.check_size(size)
        self._check_count(run)
        if self.disclosure:
            if size > READABLE:
                raise Refused("OUTPUT_UNREADABLE", f"the output has {size} bytes; the site's rules read {READABLE}")
            data = await asyncio.to_thread(output.read)
            output.seek(0)
            await asyncio.to_thread(self.disclosure.check, Released(run, data, "output", self.method_of(run)))
        self._left.setdefault(run.username, deque()).append(time.time())
        await self._write("left", run, what="output", size=size, sha256=digest)

    async def leaves_to_others(self, run: Assignment, data: bytes, organizations: list[int]) -> None:
        """The input of a subtask, before it is sealed."""
        try:
            # Every organization gets its copy, so together they may hold no more than one output.
            self.policy.check_size(len(data) * len(organizations))
            self._check_count(run)
            if self.disclosure:
                await asyncio.to_thread(self.disclosure.check, Released(run, data, "subtask", self.method_of(run)))
        except Refused as error:
            await self._write("refused", run, what="subtask", to=organizations, rule=error.rule)
            raise PermissionDenied(error.message, rule=error.rule) from error
        digest = hashlib.sha256(data).hexdigest()
        await self._write("left", run, what="subtask", to=organizations, size=len(data), sha256=digest)

    async def ended(self, run: Assignment, state: State, reason: str, message: str) -> None:
        """However it ended."""
        self._methods.pop(_key(run), None)
        await self._write("ended", run, state=_name(state), reason=reason, message=message)

    def method_of(self, run: Assignment) -> str:
        return self._methods.get(_key(run), "")

    def lets_text_out(self) -> bool:
        """Free text, of progress and logs, cannot be judged: with rules of disclosure none leaves."""
        return not self.disclosure

    def _check_count(self, run: Assignment) -> None:
        allowed = self.policy.outputs_per_day
        if allowed is None:
            return
        left = self._left.setdefault(run.username, deque())
        while left and left[0] < time.time() - DAY:
            left.popleft()
        if len(left) >= allowed:
            raise Refused("TOO_MANY_OUTPUTS", f"user {run.username!r} has had the {allowed} outputs of a day")

    async def _write(self, event: str, run: Assignment, **facts: Any) -> None:
        who = {
            "user": run.username,
            "organization": run.initiator.name,
            "organization_id": run.initiator.organization_id,
        }
        which = {"result_id": run.result_id, "epoch": run.epoch, "task_id": run.task_id, "run_id": run.run_id}
        # Nothing happens that is not in the record.
        await with_room("the audit record", lambda: asyncio.to_thread(self.audit.write, event, **which, **who, **facts))


def _key(run: Assignment) -> tuple[int, int]:
    return run.result_id, run.epoch


def _name(state: State) -> str:
    return next((name for name in vars(states) if name.isupper() and getattr(states, name) == state), str(state))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _measure(stream: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    stream.seek(0)
    while piece := stream.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    stream.seek(0)
    return size, digest.hexdigest()


def _method_of(path: Path) -> str | None:
    """The method that an input names; None where it names none, or names two: readers differ in which they take."""
    if path.stat().st_size > READABLE:
        return None
    head, dot, rest = path.read_bytes().partition(b".")
    if not dot or head.lower() != b"json":
        return None
    try:
        value = json.loads(rest, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    method = value.get("method") if isinstance(value, dict) else None
    return method if isinstance(method, str) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)
