"""A run's identity card, signed by the organization at whose node it runs, so that it can be shown to others.

The run itself has its facts from its node, on a socket that nobody else can speak on. The signature is for those who
get the card handed on: the central part of an analysis, another site, the researcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from vantage6.api.v1.algorithm_pb2 import Run, SignedRun
from vantage6.common.errors import InvalidArgument

if TYPE_CHECKING:
    from vantage6.common.envelope import Senders
    from vantage6.common.keys import KeyPair

_DOMAIN: Final = b"vantage6 run card v1\0"
LIMIT: Final = 64 * 1024


def sign_card(run: Run, by: KeyPair) -> bytes:
    """The card with its signature, as bytes to be handed on."""
    plain = Run()
    plain.CopyFrom(run)
    plain.ClearField("signed")
    facts = plain.SerializeToString()
    signed = SignedRun(run=facts, signature=by.sign(_DOMAIN + facts), key_id=by.public.id)
    return signed.SerializeToString()


def read_card(data: bytes, by: Senders, organization_id: int) -> Run:
    """The facts, if this organization signed them about a run of its own; raises InvalidArgument."""
    try:
        signed = SignedRun.FromString(data[:LIMIT])
        signer = by.signer(signed.key_id)
        if signer is None or not signer.signed(signed.signature, _DOMAIN + signed.run):
            raise InvalidArgument("the card is not signed by this organization", field="card")
        run = Run.FromString(signed.run)
    except DecodeError as error:
        raise InvalidArgument("these bytes are no card of a run", field="card") from error
    if run.organization_id != organization_id:
        raise InvalidArgument("the card is that of a run at another organization", field="card")
    return run
