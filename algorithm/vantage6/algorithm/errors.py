"""What can go wrong in an algorithm. The texts of these leave the site, so they never hold values from the data."""

from __future__ import annotations


class AlgorithmError(Exception):
    """Raised by an author of an algorithm: its text is shown to the researcher as it is."""


class InputError(AlgorithmError):
    """The task's input does not fit the algorithm: unknown method, wrong arguments, missing database."""


class SubtaskError(AlgorithmError):
    """A site did not deliver and its value was asked for."""
