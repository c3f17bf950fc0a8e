"""Rows to messages: typed ids for gRPC callers, links for those that come through the REST gateway."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vantage6.api.v1 import (
    collaboration_pb2,
    node_pb2,
    organization_pb2,
    role_pb2,
    user_pb2,
)
from vantage6.server.domain.caller import Operation, Resource, UserCaller, current_call
from vantage6.server.domain.people import is_above
from vantage6.server.domain.permissions import allows, scope_of
from vantage6.server.rpc.convert_tasks import result_message, task_message
from vantage6.server.rpc.links import API, Value, collection, link, links, moment, null, value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vantage6.server.domain.nodes import NodeView
    from vantage6.server.domain.parties import CollaborationView, OrganizationView
    from vantage6.server.domain.people import RoleView
    from vantage6.server.store.tables import Node, User

__all__ = [
    "collaboration_message", "node_link", "node_message", "node_status", "organization_message", "result_message",
    "role_message", "task_message", "user_message",
]  # fmt: skip


def organization_message(view: OrganizationView) -> organization_pb2.Organization:
    call, row = current_call(), view.row
    message = organization_pb2.Organization(
        id=row.id,
        name=row.name,
        domain=row.domain,
        address1=row.address1,
        address2=row.address2,
        zipcode=row.zipcode,
        country=row.country,
        public_key=row.public_key,
    )
    if not call.rest:
        message.collaboration_ids.extend(view.collaboration_ids)
        return message
    within = view.collaboration_ids
    message.link.CopyFrom(link(Resource.ORGANIZATION, row.id, call, organization_id=row.id, collaboration_ids=within))
    message.collaborations.CopyFrom(_collaboration_links(within))
    message.nodes.CopyFrom(_node_links(view.nodes))
    message.users.CopyFrom(links(_user_link(user, within) for user in view.users))
    # Links to the lists: there may be a hundred thousand of them.
    for name, resource, path in (
        ("results", Resource.RESULT, f"result?organization_id={row.id}"),
        ("created_tasks", Resource.TASK, f"task?initiator_id={row.id}"),
    ):
        getattr(message, name).CopyFrom(_list_link(resource, path))
    return message


def collaboration_message(view: CollaborationView) -> collaboration_pb2.Collaboration:
    call, row = current_call(), view.row
    message = collaboration_pb2.Collaboration(id=row.id, name=row.name, encrypted=row.encrypted)
    if not call.rest:
        message.organization_ids.extend(view.organization_ids)
        return message
    message.link.CopyFrom(link(Resource.COLLABORATION, row.id, call, collaboration_ids=[row.id]))
    organizations = (
        link(Resource.ORGANIZATION, member, call, organization_id=member, collaboration_ids=[row.id])
        for member in view.organization_ids
    )
    message.organizations.CopyFrom(links(organizations))
    message.nodes.CopyFrom(_node_links(view.nodes))
    message.tasks.CopyFrom(_list_link(Resource.TASK, f"collaboration/{row.id}/task"))
    return message


def node_message(view: NodeView) -> node_pb2.Node:
    call, row = current_call(), view.row
    message = node_pb2.Node(id=row.id, name=row.name, type="node", online=row.online, version=row.version)
    if view.api_key:
        message.api_key = view.api_key
    if not call.rest:
        message.organization_id = row.organization_id
        message.collaboration_id = row.collaboration_id
        if row.last_seen is not None:
            message.last_seen_time.FromDatetime(row.last_seen)
        return message
    within = [row.collaboration_id]
    message.link.CopyFrom(node_link(row))
    message.status.CopyFrom(node_status(row))
    message.ip.CopyFrom(value(row.ip or None))
    message.last_seen.CopyFrom(moment(row.last_seen))
    organization = row.organization_id
    message.organization.CopyFrom(
        link(Resource.ORGANIZATION, organization, call, organization_id=organization, collaboration_ids=within)
    )
    message.collaboration.CopyFrom(link(Resource.COLLABORATION, row.collaboration_id, call, collaboration_ids=within))
    return message


def user_message(row: User) -> user_pb2.User:
    call = current_call()
    names = sorted(role.name for role in row.roles)
    message = user_pb2.User(
        id=row.id, username=row.username, firstname=row.firstname, lastname=row.lastname, email=row.email, type="user"
    )
    if not call.rest:
        message.role_names.extend(names)
        if row.organization_id is not None:
            message.organization_id = row.organization_id
        if row.last_seen is not None:
            message.last_seen_time.FromDatetime(row.last_seen)
        return message
    organization = row.organization_id
    message.link.CopyFrom(_user_link(row))
    message.roles.CopyFrom(value(",".join(names)))
    # Whether a person is "online" is not the server's business; 1.x had the field.
    message.status.CopyFrom(null())
    message.ip.CopyFrom(value(row.ip or None))
    message.last_seen.CopyFrom(moment(row.last_seen))
    message.organization.CopyFrom(link(Resource.ORGANIZATION, organization, call, organization_id=organization))
    return message


def role_message(view: RoleView) -> role_pb2.Role:
    call, row = current_call(), view.row
    message = role_pb2.Role(id=row.id, name=row.name, description=row.description)
    for rule in sorted(row.rules, key=lambda rule: (rule.resource, rule.operation)):
        message.rules.add(resource=rule.resource, operation=rule.operation, scope=rule.scope)
    organization = row.organization_id
    if not call.rest:
        if organization is not None:
            message.organization_id = organization
        return message
    # A default role belongs to nobody and everybody may look at it, nobody may change it.
    own = {"id": row.id, "link": f"/api/role/{row.id}", "methods": ["GET"]}
    message.link.CopyFrom(
        value(own) if organization is None else link(Resource.ROLE, row.id, call, organization_id=organization)
    )
    message.organization.CopyFrom(link(Resource.ORGANIZATION, organization, call, organization_id=organization))
    message.users.CopyFrom(links(_user_link(user, ()) for user in view.users))
    return message


def node_status(row: Node) -> Value:
    return null() if row.last_seen is None else value("online" if row.online else "offline")


def node_link(row: Node) -> Value:
    call = current_call()
    own = call.caller.key == f"node:{row.id}"
    within = [row.collaboration_id]
    return link(Resource.NODE, row.id, call, own=own, organization_id=row.organization_id, collaboration_ids=within)


def _user_link(row: User, within: Sequence[int] | None = None) -> Value:
    """`within` are collaborations by which the caller may know of the user; None: the caller is looking at it."""
    caller = current_call().caller
    own = isinstance(caller, UserCaller) and caller.id == row.id
    may = partial(allows, caller, Resource.USER, own=own, organization_id=row.organization_id)
    methods = ["GET"] if within is None or may(Operation.VIEW, collaboration_ids=within) else []
    if own or not isinstance(caller, UserCaller) or not is_above(caller, row):
        methods += [verb for operation, verb in ((Operation.EDIT, "PATCH"), (Operation.DELETE, "DELETE"))
                    if may(operation)]  # fmt: skip
    return value({"id": row.id, "link": f"{API}/{Resource.USER}/{row.id}", "methods": methods})


def _list_link(resource: Resource, path: str) -> Value:
    """A link to a list, or null for those who may look at no list of that kind."""
    seen = scope_of(current_call().caller, resource, Operation.VIEW) is not None
    return collection(path, ["GET"]) if seen else null()


def _collaboration_links(ids: Iterable[int]) -> Value:
    call = current_call()
    return links(link(Resource.COLLABORATION, i, call, collaboration_ids=[i]) for i in ids)


def _node_links(nodes: Iterable[Node]) -> Value:
    return links(node_link(row) for row in nodes)
