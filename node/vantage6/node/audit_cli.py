"""`vnode audit` and `vnode load`: what the site's administrator asks of the record, and images without a registry."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path
from typing import Any

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, json_option
from vantage6.common.contexts import Context
from vantage6.node.admin.inside import done_inside
from vantage6.node.admin.options import of_node, title
from vantage6.node.audit import AuditBroken, records, verify
from vantage6.node.config import load_context

_LOADED = re.compile(r"Loaded image(?: ID)?: (.+)")
_PLAIN = {"number", "time", "event", "before"}


@click.group()
def audit() -> None:
    """Show or verify the node's audit log: who asked what, what was decided, what left."""


@audit.command("verify")
@of_node
@json_option
def verify_log(context: Context, *, as_json: bool) -> None:
    """Check that no record was changed, taken out or cut off.

    Example: vnode audit verify --name north
    """
    done_inside(context, load_context(context), ["audit", "verify"], *(["--json"] if as_json else []))
    path = _file(context)
    try:
        head = verify(path)
    except AuditBroken as error:
        raise Stop(f"{path}: {error.message}", Code.CHECK) from error
    if as_json:
        terminal.write_json({"records": head.count, "digest": head.digest})
    terminal.say(f"{title(context, load_context(context))}: {head.count} records, unbroken; the last has {head.digest}")


@audit.command("show")
@of_node
@click.option("--last", default=50, show_default=True, type=click.IntRange(min=1), help="So many of the newest.")
@click.option("--result", "result_id", type=int, help="Of one result only.")
@click.option("--event", help="Of one kind only: started, asked, allowed, left, ended.")
@json_option
def show_log(context: Context, *, last: int, result_id: int | None, event: str | None, as_json: bool) -> None:
    """Show records, oldest first.

    Example: vnode audit show --name north --event left --last 10
    """
    options = ["--last", str(last), *(["--json"] if as_json else []), *(["--event", event] if event else [])]
    options += ["--result", str(result_id)] if result_id is not None else []
    done_inside(context, load_context(context), ["audit", "show"], *options)
    chosen: deque[dict[str, Any]] = deque(maxlen=last)
    try:
        for record in records(_file(context)):
            if result_id in (None, record.get("result_id")) and event in (None, record["event"]):
                chosen.append(record)
    except AuditBroken as error:
        terminal.warn(f"{error.message}; what stands before is shown")
    if as_json:
        terminal.write_json(list(chosen))
        return
    rows = [(each["number"], each["time"], each["event"], _facts(each)) for each in chosen]
    terminal.table(("Number", "Time", "Event", "Facts"), rows)


@click.command()
@of_node
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def load(context: Context, file: Path, *, as_json: bool) -> None:
    """Put the images of FILE (of `docker save`) into the engine: for sites without a way to a registry.

    Example: vnode load --name north average.tar
    """
    config = load_context(context)
    if config.runtime != "docker":
        raise Stop(f"runtime {config.runtime!r} has its images as folders; see option image_folder", Code.USAGE)
    found = _load(file, config.runtime_options.get("base_url"))
    if as_json:
        terminal.write_json({"images": found})
    for name, digest in found.items():
        terminal.say(f"{name} is here; policy.allowed_digests knows it as {digest}")


def _load(file: Path, base_url: object) -> dict[str, str]:
    import docker  # noqa: PLC0415 - only here
    import requests  # noqa: PLC0415
    from docker.errors import DockerException, ImageLoadError  # noqa: PLC0415

    try:
        client = docker.DockerClient(base_url=str(base_url)) if base_url else docker.from_env()
        try:
            with file.open("rb") as stream:
                # To its end, also after an error: what is left unread would keep the connection.
                said = list(client.api.load_image(stream))  # type: ignore[no-untyped-call]
            if errors := [str(line["error"]) for line in said if "error" in line]:
                raise ImageLoadError(errors[0])
            names = [match[1] for line in said if (match := _LOADED.match(str(line.get("stream", ""))))]
            images = [client.images.get(name) for name in names]
            return {name: str(image.id) for image in images for name in (image.tags or [str(image.id)])}
        finally:
            client.close()
    except (DockerException, requests.RequestException) as error:
        raise Stop(f"the engine did not take {file}: {error}", Code.ENGINE) from error


def _file(context: Context) -> Path:
    config = load_context(context)
    path = config.data_dir / "audit.jsonl"
    if not path.exists():
        raise Stop(f"{title(context, config)} has no audit log yet: it was never started", Code.FAILED)
    return path


def _facts(record: dict[str, Any]) -> str:
    return terminal.harmless("  ".join(f"{key}={value}" for key, value in record.items() if key not in _PLAIN))
