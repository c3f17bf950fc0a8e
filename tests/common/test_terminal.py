"""What terminals are shown."""

from __future__ import annotations

import io

import pytest

from vantage6.common import terminal


@pytest.mark.attack
def test_names_are_made_harmless() -> None:
    assert terminal.harmless("a\x1b[2Jb\r\nc\u202ed\x07") == "a?[2Jb??c?d?"
    assert terminal.harmless("ä 漢 é") == "ä 漢 é"
    assert len(terminal.harmless("x" * 10_000)) == 2001


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_off_when_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.coloured(Terminal())
    assert not terminal.coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.coloured(Terminal())


@pytest.mark.attack
def test_a_table_shows_text_only(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(("Name", "Status"), [("[red]x\x1b[31m", "online"), (None, 3)])
    shown = capsys.readouterr().out
    assert "[red]x?[31m" in shown
    assert "\x1b" not in shown


def test_a_message_of_several_lines_stays_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.complain("first\n[info]  - second")
    assert capsys.readouterr().err == "[error] - first\n          [info]  - second\n"
