"""What is told of an algorithm's exit code: the same words from a node and from `MockNetwork`."""

from __future__ import annotations

BAD_INPUT = 2
"""What an algorithm ends with when the task's input does not fit it."""
KEPT = "the site keeps its log"
"""Where the researcher finds out more, at a site that shares no logs."""


def told(code: int, where: str = KEPT) -> str:
    """A sentence that has nothing of what the container says; `where` there is more."""
    if code == BAD_INPUT:
        return (
            "the input does not fit the algorithm: its method, its arguments, or the databases that the task names "
            f"(exit code {code}); {where}"
        )
    return f"the algorithm ended with exit code {code}; {where}"
