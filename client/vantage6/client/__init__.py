"""What researchers import: `Client` (blocking, for scripts and notebooks) and `AsyncClient`, of one implementation."""

from vantage6.client._models import (
    Collaboration,
    LogIn,
    LogLine,
    Node,
    Organization,
    Result,
    ResultState,
    Role,
    Rule,
    SecondFactor,
    Task,
    TaskResult,
    TaskState,
    User,
    WhoAmI,
)
from vantage6.client._sync import Client
from vantage6.client.client import AsyncClient

__all__ = [
    "AsyncClient",
    "Client",
    "Collaboration",
    "LogIn",
    "LogLine",
    "Node",
    "Organization",
    "Result",
    "ResultState",
    "Role",
    "Rule",
    "SecondFactor",
    "Task",
    "TaskResult",
    "TaskState",
    "User",
    "WhoAmI",
]
