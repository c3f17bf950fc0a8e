"""The terminals on the install pages, as they really are: `python -m tests.flows.captures` puts them there anew."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .network import ROOT
from .screen import lines_of
from .terminal import ENTER, Terminal

HOME = "/home/ada"


@dataclass(frozen=True)
class Capture:
    """A command, and what somebody answers to each question."""

    page: Path
    command: str
    answers: tuple[tuple[str, str], ...]


CAPTURES = {
    "node": Capture(ROOT / "docs" / "install-node.md", "vnode new", (
        ("Name of the configuration", f"north{ENTER}"),
        ("Address of the server", f"https://server.example:8443{ENTER}"),
        ("API key", f"secret{ENTER}"),
        ("CA bundle", f"certs/ca.pem{ENTER}"),
        ("Private key", ENTER),
        ("Database 'default'", f"/data/patients.csv{ENTER}"),
        ("Which kind?", ENTER),
        ("Another database?", "n"),
        ("Images that may run", f"vantage6/examples/.*{ENTER}"),
        ("What runs the algorithms?", ENTER),
        ("Write this to", "y"),
    )),
    "server": Capture(ROOT / "docs" / "install-server.md", "vserver new --user", (
        ("Name of the configuration", f"central{ENTER}"),
        ("Where it listens", ENTER),
        ("URL of the database", ENTER),
        ("Email address of root", f"admin@example.org{ENTER}"),
        ("Write this to", "y"),
    )),
}  # fmt: skip


def captured(name: str) -> str:
    """What is on the screen at the end."""
    capture = CAPTURES[name]
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(Path(home), *capture.command.split())
        for question, reply in capture.answers:
            terminal.answer(question, reply)
        assert terminal.end() == 0, terminal.seen
        lines = [f"$ {capture.command}", *lines_of(terminal.seen)]
        return "\n".join(lines).strip().replace(f"{home}/config", f"{HOME}/.config").replace(home, HOME) + "\n"


def page_with(name: str, text: str) -> str:
    """The page, with this in the place of its capture."""
    page = CAPTURES[name].page.read_text()
    pattern = rf"(<!-- captured: {name} -->\n```text\n).*?(```\n)"
    made, number = re.subn(pattern, lambda found: f"{found[1]}{text}{found[2]}", page, count=1, flags=re.DOTALL)
    assert number == 1, f"{CAPTURES[name].page} has no place for it"
    return made


if __name__ == "__main__":
    for each, capture in CAPTURES.items():
        capture.page.write_text(page_with(each, captured(each)))
