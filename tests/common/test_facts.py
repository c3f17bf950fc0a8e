"""A task's key as commitment to its facts, and cards that organizations sign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vantage6.api.v1.algorithm_pb2 import Run, SignedRun
from vantage6.common.card import read_card, sign_card
from vantage6.common.errors import InvalidArgument
from vantage6.common.facts import TaskFacts
from vantage6.common.keys import KeyPair

FACTS = TaskFacts(3, "example/average:1", ("default", "second"))


def test_as_documented() -> None:
    """A key made elsewhere, from the text of the module alone."""
    facts = TaskFacts(2, "h.example/ä:1", ("a b",))
    assert facts.agree("f1.AAAAAAAAAAAAAAAAAAAAAA.3qsVLj4nOi07GoeZimeF71N7Kbla1Ex-") is True


def test_keys_are_new_and_short() -> None:
    keys = {FACTS.new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) <= 64 and key.isprintable() and FACTS.agree(key) for key in keys)


@pytest.mark.attack
@pytest.mark.parametrize(
    "changed",
    [
        {"participants": 2}, {"image": "example/average:2"}, {"databases": ("default",)},
        {"databases": ("second", "default")}, {"databases": ("default,second",)},
    ],
)  # fmt: skip
def test_other_facts(changed: dict[str, object]) -> None:
    key = FACTS.new_key()
    assert replace(FACTS, **changed).agree(key) is False  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "task-5", "f1..", "f1." + "a" * 60, "f2.AAAAAAAAAAAAAAAAAAAAAA." + "a" * 32])
def test_keys_that_say_nothing(key: str) -> None:
    assert FACTS.agree(key) is None


RUN = Run(result_id=1, run_id=3, collaboration_id=7, organization_id=2, participants=3, image="a", signed=b"old")


def test_card() -> None:
    keys = KeyPair.generate()
    card = read_card(sign_card(RUN, keys), keys.public, 2)
    assert (card.participants, card.run_id, card.signed) == (3, 3, b"")


@pytest.mark.attack
def test_cards_that_are_refused() -> None:
    keys, others = KeyPair.generate(), KeyPair.generate()
    good = SignedRun.FromString(sign_card(RUN, keys))
    more = Run.FromString(good.run)
    more.participants = 99
    forged = [
        SignedRun(run=more.SerializeToString(), signature=good.signature, key_id=good.key_id),
        SignedRun(run=good.run, signature=others.sign(good.run), key_id=good.key_id),
        SignedRun(run=good.run, signature=good.signature, key_id=others.public.id),
        SignedRun(run=good.run, signature=keys.sign(good.run), key_id=good.key_id),
        SignedRun(),
    ]
    for each in [*(card.SerializeToString() for card in forged), b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"]:
        with pytest.raises(InvalidArgument):
            read_card(each, keys.public, 2)
    with pytest.raises(InvalidArgument, match="another organization"):
        read_card(good.SerializeToString(), keys.public, 5)
