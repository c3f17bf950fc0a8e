"""Passwords that are guessed first: 16,000 of at least eight characters, from the lists of zxcvbn and Django."""

from __future__ import annotations

import functools
import gzip
import unicodedata
from importlib.resources import files

FEWEST_DIFFERENT = 3


@functools.cache
def common_passwords() -> frozenset[str]:
    packed = files("vantage6.server.domain").joinpath("common_passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode("ascii").split("\n"))


def is_common(password: str) -> bool:
    """In any spelling of capitals, also with a digit, a year or signs at the end; or of one or two characters only."""
    plain = unicodedata.normalize("NFKC", password).lower()
    if len(set(plain)) < FEWEST_DIFFERENT:
        return True
    known = common_passwords()
    return plain in known or plain.rstrip("0123456789!?.*#$@_- ") in known
