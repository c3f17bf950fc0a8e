"""What a person sees: the screen of a terminal, from the bytes that programs send it. Only what ours send is known."""

from __future__ import annotations

import re

_PART = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z@])|\x1b[()][A-Z0-9]|\x1b[=>78]|([\r\n\b\x07])|([^\x1b\r\n\b\x07]+)")


def lines_of(sent: str, width: int = 200) -> list[str]:
    """The lines that are on the screen at the end, with those that went out of it at the top."""
    screen = _Screen(width)
    for arguments, command, control, text in _PART.findall(sent):
        if text:
            screen.write(text)
        elif control:
            screen.control(control)
        elif command:
            screen.command(command, [int(each or 0) for each in arguments.lstrip("?").split(";")])
    return [line.rstrip() for line in screen.lines]


class _Screen:
    def __init__(self, width: int) -> None:
        self.lines = [""]
        self.row = self.column = 0
        self._width = width

    def write(self, text: str) -> None:
        line = self._line().ljust(self.column)
        self.lines[self.row] = line[: self.column] + text + line[self.column + len(text) :]
        self.column += len(text)

    def control(self, what: str) -> None:
        if what == "\n":
            self.row += 1
            self._line()
        self.column = 0 if what == "\r" else max(0, self.column - 1) if what == "\b" else self.column

    def command(self, what: str, given: list[int]) -> None:
        number = max(1, given[0])
        if what in "AB":
            self.row = max(0, self.row + (number if what == "B" else -number))
        elif what in "CD":
            self.column = max(0, self.column + (number if what == "C" else -number))
        elif what == "G":
            self.column = number - 1
        elif what == "K":
            self.lines[self.row] = self._line()[: self.column] if given[0] == 0 else ""
        elif what == "J":
            self.lines[self.row] = self._line()[: self.column]
            del self.lines[self.row + 1 :]
        elif what == "P":
            line = self._line()
            self.lines[self.row] = line[: self.column] + line[self.column + number :]

    def _line(self) -> str:
        while len(self.lines) <= self.row:
            self.lines.append("")
        return self.lines[self.row]
