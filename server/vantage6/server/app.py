"""Builds everything, top to bottom, and serves: the only wiring."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import grpc
import structlog

from vantage6.api.v1 import (
    auth_pb2_grpc,
    collaboration_pb2_grpc,
    delivery_pb2_grpc,
    event_pb2_grpc,
    node_pb2_grpc,
    organization_pb2_grpc,
    payload_pb2_grpc,
    result_pb2_grpc,
    role_pb2_grpc,
    system_pb2_grpc,
    task_pb2_grpc,
    user_pb2_grpc,
)
from vantage6.common.channel import MAX_MESSAGE
