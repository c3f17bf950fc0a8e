"""What the user proxy does to tasks and results on their way: seals the inputs, opens the outputs."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import TYPE_CHECKING, Any

from vantage6.client.bridge import Serialized
from vantage6.common.errors import InvalidArgument, NotFound, ResourceExhausted, Vantage6Error
from vantage6.common.serialization import deserialize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vantage6.client.bridge import Bridge

LARGEST = 64 * 1024 * 1024
"""Bytes of an output that is handed on in JSON; larger ones are for `v6 task result`."""
TAKEN = {
    "collaboration_id", "organizations", "image", "name", "description", "database", "databases", "deadline", "retries",
    "min_results", "priority", "fail_fast", "retry_failures", "input",
}  # fmt: skip


class Sealing:
    """Of one user."""

    def __init__(self, client: Bridge, *, possible: bool = True) -> None:
        self._client = client
        self.possible = possible

    async def create(self, asked: object) -> int:
        """Creates the task that was asked for as over REST, inputs plain, and gives its id."""
        if not isinstance(asked, dict):
            raise InvalidArgument("the task is no JSON object")
        if unknown := sorted(set(asked) - TAKEN):
            raise InvalidArgument(f"not known here: {', '.join(map(str, unknown))[:200]}", field=str(unknown[0])[:50])
        organizations, given = _recipients(asked)
        databases = asked.get("databases") or ([asked["database"]] if asked.get("database") else [])
        try:
            task = await self._client.task.create(
                int(asked["collaboration_id"]),
                organizations,
                str(asked["image"]),
                given,
                name=str(asked.get("name", "")),
                description=str(asked.get("description", "")),
                databases=[str(label) for label in databases],
                deadline=dt.datetime.fromisoformat(asked["deadline"]) if asked.get("deadline") else None,
                retries=_number(asked, "retries"),
                min_results=_number(asked, "min_results"),
                priority=_number(asked, "priority"),
                fail_fast=_truth(asked, "fail_fast"),
                retry_failures=_truth(asked, "retry_failures"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"the task is not complete, or one of its fields is no good: {error!r}") from error
        return task.id

    async def open(self, found: object) -> None:
        """Puts what the organizations returned where the REST API has their envelopes."""
        for result in _results(found):
            if result.get("result") is None and result.get("result_payload") is None:
                continue
            try:
                data = await self._client.serialized(int(result["id"]))
                if len(data) > LARGEST:
                    raise ResourceExhausted(f"the output has {len(data)} bytes: fetch it with v6 task result --output")
            except Vantage6Error as error:
                # One that is for others, or that somebody has tampered with: it is not given out, and said.
                result["result"], result["error"] = None, {"reason": error.reason, "message": error.message}
                continue
            result["result"], result["result_payload"] = base64.b64encode(data).decode(), None


def _number(asked: Mapping[str, Any], name: str) -> int | None:
    return int(asked[name]) if name in asked else None


def _truth(asked: Mapping[str, Any], name: str) -> bool:
    if not isinstance(value := asked.get(name, False), bool):
        raise InvalidArgument(f"{name}: true or false", field=name)
    return value


def _recipients(asked: Mapping[str, Any]) -> tuple[list[int], object]:
    """The organizations, and the input for all of them: beside them as it is, or with each as base64, as in 1.x."""
    try:
        organizations = [each if isinstance(each, dict) else {"id": each} for each in asked["organizations"]]
        ids = [int(each["id"]) for each in organizations]
        inputs = {each["input"] for each in organizations if "input" in each}
        if "input" in asked and not inputs:
            return ids, asked["input"]
        if len(inputs) != 1 or "input" in asked or not all("input" in each for each in organizations):
            raise InvalidArgument("input: one for all organizations; create a task for each other one", field="input")
        data = base64.b64decode(inputs.pop(), validate=True)
        value = deserialize(data)
        # A table of another language comes out of Arrow here as pandas would have it: it goes on as it came.
        return ids, Serialized(data) if data[:6].lower() == b"arrow." else value
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidArgument('organizations: a list of {"id": …, "input": base64}', field="organizations") from error


def _results(found: object) -> list[dict[str, Any]]:
    if isinstance(found, list):
        return [result for each in found for result in _results(each)]
    if not isinstance(found, dict):
        return []
    if isinstance(found.get("results"), list):  # Tasks with their results embedded.
        return [each for each in found["results"] if isinstance(each, dict) and "id" in each and "result" in each]
    if "result" not in found:
        raise NotFound("the server answers something else than results")
    return [found]
