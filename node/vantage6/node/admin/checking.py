"""`vnode check`."""

from __future__ import annotations

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Stop, code_of_findings, json_option
from vantage6.common.contexts import Context
from vantage6.common.findings import Finding
from vantage6.node.admin.options import of_node, title
from vantage6.node.config import load_context
from vantage6.node.doctor import run


@click.command()
@of_node
@click.option("--quick", is_flag=True, help="Start no container to look around from inside.")
@json_option
def check(context: Context, *, quick: bool, as_json: bool) -> None:
    """Test everything that a node stands on; each line says what, how it is, and the fix.

    Example: vnode check --name north
    """
    config = load_context(context)
    report = run(config, context.document, deep=not quick, told=(lambda _: None) if as_json else show)
    bad = [finding for finding in report.findings if finding.outcome == "failed"]
    if as_json:
        terminal.write_json({"good": report.good, "findings": report.plain()})
    if bad:
        raise Stop(f"{title(context, config)} cannot work: {len(bad)} checks failed", code_of_findings(bad))
    if not as_json:
        terminal.say(f"{title(context, config)} is ready to start")


def show(finding: Finding) -> None:
    terminal.line(finding.outcome, f"{finding.what}: {finding.detail}")
    if finding.fix and finding.outcome != "ok":
        terminal.line("", f"fix: {finding.fix}")
