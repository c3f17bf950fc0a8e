"""Hangs the services of parties, people and the system into a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantage6.api.v1 import (
    audit_pb2_grpc,
    auth_pb2_grpc,
    collaboration_pb2_grpc,
    node_pb2_grpc,
    organization_pb2_grpc,
    role_pb2_grpc,
    system_pb2_grpc,
    user_pb2_grpc,
)
from vantage6.server.domain.nodes import NodeRules
from vantage6.server.domain.parties import CollaborationRules, Hooks, OrganizationRules
from vantage6.server.domain.people import UserRules
from vantage6.server.domain.roles import RoleRules
from vantage6.server.domain.second_factor import SecondFactorRules
from vantage6.server.rpc.audit import AuditServicer
from vantage6.server.rpc.auth import AuthServicer
from vantage6.server.rpc.collaborations import CollaborationServicer
from vantage6.server.rpc.nodes import NodeServicer
from vantage6.server.rpc.organizations import OrganizationServicer
from vantage6.server.rpc.roles import RoleServicer
from vantage6.server.rpc.system import SystemServicer
from vantage6.server.rpc.users import UserServicer

if TYPE_CHECKING:
    import grpc

    from vantage6.server.domain.accounts import AccountRules
    from vantage6.server.domain.audit import AuditLog
    from vantage6.server.domain.recovery import RecoveryRules
    from vantage6.server.domain.secrets import Passwords
    from vantage6.server.domain.throttle import Throttle
    from vantage6.server.rpc.system import Check
    from vantage6.server.store.sql import Database


@dataclass(frozen=True)
class Parts:
    """What the services stand on."""

    database: Database
    accounts: AccountRules
    passwords: Passwords
    throttle: Throttle
    hooks: Hooks
    checks: dict[str, Check]
    recovery: RecoveryRules
    audit: AuditLog


def register(server: grpc.aio.Server, parts: Parts) -> None:
    database = parts.database
    nodes = NodeRules(database, parts.hooks)
    factors = SecondFactorRules(database, parts.accounts.codes, parts.passwords, parts.throttle)
    auth = AuthServicer(parts.accounts, factors, parts.recovery)
    system = SystemServicer(nodes, parts.checks)
    auth_pb2_grpc.add_AuthServiceServicer_to_server(auth, server)
    system_pb2_grpc.add_SystemServiceServicer_to_server(system, server)
    organizations = OrganizationServicer(OrganizationRules(database))
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(organizations, server)
    collaborations = CollaborationServicer(CollaborationRules(database, parts.hooks))
    collaboration_pb2_grpc.add_CollaborationServiceServicer_to_server(collaborations, server)
    node_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(nodes, database), server)
    users = UserServicer(UserRules(database, parts.passwords, parts.throttle))
    user_pb2_grpc.add_UserServiceServicer_to_server(users, server)
    role_pb2_grpc.add_RoleServiceServicer_to_server(RoleServicer(RoleRules(database)), server)
    audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(parts.audit), server)
