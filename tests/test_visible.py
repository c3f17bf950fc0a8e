"""What the server can see in an encrypted collaboration is what SECURITY.md says, field by field of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from vantage6.api.v1 import (
    collaboration_pb2,
    delivery_pb2,
    node_pb2,
    organization_pb2,
    payload_pb2,
    task_pb2,
    user_pb2,
)

SECURITY = Path(__file__).resolve().parents[1] / "SECURITY.md"
SEALED = "sealed"
NOTHING = "says nothing"
"""Kinds and counters of the protocol: an epoch, an offset, a key against repetition."""

ENTRANCES = (
    task_pb2.CreateTaskRequest,
    delivery_pb2.NodeMessage,
    payload_pb2.CreatePayloadRequest,
    payload_pb2.WritePayloadRequest,
    user_pb2.CreateUserRequest,
    organization_pb2.CreateOrganizationRequest,
    collaboration_pb2.CreateCollaborationRequest,
    node_pb2.CreateNodeRequest,
)
"""By these messages, and those inside of them, something new comes to the server."""

FIELDS = {
    "CreateTaskRequest": {
        "collaboration_id": "collaborations", "name": "task names", "description": "descriptions",
        "image": "image names", "database": "database **labels**", "databases": "database **labels**",
        "master": NOTHING, "key": "the tasks' keys", "deadline": "deadlines", "retries": "numbers of retries",
        "min_results": "how many results are enough", "priority": "priorities",
        "fail_fast": "whether a failure ends the task", "retry_failures": "numbers of retries",
    },
    "TaskOrganization": {"id": "who asked whom", "input": SEALED, "input_payload_id": "sizes of inputs"},
    "Hello": {
        "contract_version": "which versions run where", "instance_id": NOTHING,
        "window": "how many runs a node takes at once", "attempt": NOTHING,
    },
    "VersionsEntry": {"key": "which versions run where", "value": "which versions run where"},
    "Held": {"result_id": "which it holds", "epoch": NOTHING, "state": "how it ended"},
    "Report": {
        "result_id": "how it ended", "epoch": NOTHING, "state": "how it ended", "reason": "reason",
        "message": "the node's message", "start_time": "how long it took", "finish_time": "how long it took",
    },
    "Content": {"inline": SEALED, "payload_id": "sizes of inputs, outputs and logs"},
    "Progress": {
        "result_id": "that a run makes progress", "epoch": NOTHING, "kind": "that a run makes progress",
        "fraction": "a fraction", "text": SEALED,
    },
    "LogLines": {
        "result_id": "log lines it sends", "epoch": NOTHING, "sequence": "how many log lines", "lines": SEALED,
    },
    "Window": {"size": "how many runs a node takes at once"},
    "CreatePayloadRequest": {
        "collaboration_id": "collaborations", "size": "to the byte", "sha256": "SHA-256 of their envelopes",
        "result_id": "sizes of inputs, outputs", "idempotency_key": NOTHING,
    },
    "WritePayloadRequest": {"id": NOTHING, "offset": NOTHING, "sha256": "SHA-256 of their envelopes"},
    "HttpBody": {"content_type": NOTHING, "data": SEALED},
    "CreateUserRequest": {
        "username": "ids of users", "email": "e-mail addresses", "password": "Passwords", "firstname": "Names",
        "lastname": "Names", "roles": "users", "organization_id": "organizations", "idempotency_key": NOTHING,
    },
    "CreateOrganizationRequest": {
        "name": "Names and ids of users, organizations", "domain": "organizations' domains",
        "address1": "postal addresses", "address2": "postal addresses", "zipcode": "postal addresses",
        "country": "postal addresses", "public_key": "public keys", "idempotency_key": NOTHING,
    },
    "CreateCollaborationRequest": {
        "name": "collaborations", "organization_ids": "organizations", "encrypted": NOTHING,
        "idempotency_key": NOTHING,
    },
    "CreateNodeRequest": {
        "collaboration_id": "collaborations", "organization_id": "organizations", "name": "nodes",
        "idempotency_key": NOTHING,
    },
}  # fmt: skip
"""Each field that is no message of ours, with the words of SECURITY.md that tell of it."""

OTHERS = {"google.protobuf.Timestamp", "google.protobuf.Any"}


def fields_of(message: Descriptor, found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Names of the fields of a message and of those inside of it."""
    if message.name in found:
        return found
    own = found.setdefault(message.name, set())
    for field in message.fields:
        if field.message_type is None or field.message_type.full_name in OTHERS:
            if field.message_type is None or field.message_type.full_name != "google.protobuf.Any":
                own.add(field.name)
        else:
            fields_of(field.message_type, found)
    if not own:
        del found[message.name]
    return found


@pytest.mark.row("M35")
def test_every_field_that_reaches_the_server_has_a_word_in_security_md() -> None:
    found: dict[str, set[str]] = {}
    for entrance in ENTRANCES:
        fields_of(entrance.DESCRIPTOR, found)
    assert found == {message: set(words) for message, words in FIELDS.items()}, "a field without a word, or the reverse"
    text = SECURITY.read_text(encoding="utf-8")
    section = text.split("## What the server sees in an encrypted collaboration")[1].split("\n## ")[0]
    visible = " ".join(section.split("It does not see")[0].split())
    words = {word for fields in FIELDS.values() for word in fields.values()} - {SEALED, NOTHING}
    assert [word for word in sorted(words) if " ".join(word.split()) not in visible] == []
