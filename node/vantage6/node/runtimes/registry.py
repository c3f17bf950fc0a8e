"""Runtimes by the name that the configuration uses; other packages add theirs by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from vantage6.node.runtimes.base import Runtime, RuntimeUnknown

GROUP = "vantage6.runtimes"

Options = Mapping[str, object]
Factory = Callable[[Options], Runtime]

# As text: a node that uses the sandbox does not import the Docker SDK, and need not have it.
_BUILT_IN = {
    "docker": "vantage6.node.runtimes.docker:from_options",
    "sandbox": "vantage6.node.runtimes.sandbox:from_options",
    "null": "vantage6.node.runtimes.null:from_options",
}


def runtime_names() -> list[str]:
    """All names that `make_runtime` would accept."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def make_runtime(name: str, options: Options) -> Runtime:
    """Builds the runtime; `options` always has `node_name` (str), the rest is the runtime's own.

    docker: `base_url`, `pull` (missing, always, never), `registries` {host: {username, password}}.
    sandbox: `image_folder`, `state_folder`, `bwrap`. null: `output` (bytes), `seconds`.
    """
    return _factory(name)(options)


def _factory(name: str) -> Factory:
    if name in _BUILT_IN:  # First: nobody replaces a built-in one by installing a package.
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast("Factory", getattr(import_module(module), attribute))
    for point in entry_points(group=GROUP, name=name):
        return cast("Factory", point.load())
    raise RuntimeUnknown(f"runtime {name!r} is not known; there are {', '.join(runtime_names())}", field="runtime")


def text_option(options: Options, key: str, default: str | None = None) -> str:
    """Reads one option that must be text."""
    value = options.get(key, default)
    if not isinstance(value, str):
        raise RuntimeUnknown(f"option {key!r} of the runtime must be text, not {type(value).__name__}", field=key)
    return value
