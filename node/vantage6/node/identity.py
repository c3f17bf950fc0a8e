"""Whose node this is: the key pair on this machine against the one that the server shows (at the start)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import structlog

from vantage6.api.v1.delivery_pb2 import Welcome
from vantage6.api.v1.organization_pb2 import GetOrganizationRequest, UpdateOrganizationRequest
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.common.errors import EncryptionRequired, FailedPrecondition, KeyMismatch, from_rpc_error
from vantage6.common.keyring import KeyRing
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.node.config import NodeConfig

log = structlog.get_logger(__name__)


async def settle_keys(config: NodeConfig, welcome: Welcome, channel: grpc.aio.Channel) -> KeyRing | None:
    """The node's key pair: made if there is none anywhere, uploaded if the server has none, else as the server shows.

    An unencrypted collaboration needs none; that it is one is the site's word, since the server may not be honest.
    """
    if not welcome.encrypted and config.encrypted:
        raise EncryptionRequired(
            f"the server says that collaboration {welcome.collaboration_name!r} is not encrypted, so results would "
            "leave this site as plain text. If that is right and agreed, set 'encrypted: false' in the node's "
            "configuration; if it was encrypted before, do not: ask the other organizations first"
        )
    if not welcome.encrypted:
        return None
    path = config.private_key_file
    keys = await asyncio.to_thread(_load_or_make, path, config, welcome)
    shown = welcome.public_key
    if not shown:
        shown = await _upload(keys, welcome, channel)
    server_key = PublicKey.from_pem(shown)
    if server_key != keys.public and keys.pair(server_key.id):
        # The key was rotated in this file, and nobody has told the server yet, which a node may not do.
        log.warning("key_rotated", server_has=server_key.fingerprint, fingerprint=keys.public.fingerprint)
        return KeyRing(keys.pair(server_key.id) or keys.current, keys.current, *keys.earlier)
    if server_key != keys.public:
        raise KeyMismatch(
            f"the private key {path} has the fingerprint {keys.public.fingerprint}, but the server shows "
            f"{server_key.fingerprint} for organization {welcome.organization_name!r}. Either put the organization's "
            "private key there (copy it from the node or user that made it, and set 'private_key' in the "
            "configuration), or have an administrator of the organization replace the public key at the server; "
            "results that were sealed for the old one can then no longer be opened with this key"
        )
    log.info("keys_checked", fingerprint=keys.public.fingerprint)
    return keys


def _load_or_make(path: Path, config: NodeConfig, welcome: Welcome) -> KeyRing:
    if path.exists():
        return KeyRing.load(path)
    if config.private_key is not None:
        raise KeyMismatch(
            f"private_key: {path} does not exist. Put the organization's private key there, make one with "
            f"'vnode create-private-key {path}', or leave private_key out of the configuration to have one made"
        )
    if welcome.public_key:
        # Making a new one would be of no use: the organization has a key, and its private half is somewhere else.
        raise KeyMismatch(
            f"organization {welcome.organization_name!r} has a public key at the server "
            f"({PublicKey.from_pem(welcome.public_key).fingerprint}), but this node has no private key (looked for "
            f"{path}). Copy the organization's private key to this machine and set 'private_key' in the configuration, "
            "or have an administrator of the organization remove the public key at the server"
        )
    keys = KeyPair.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys.save(path)
    log.info("key_made", path=str(path), fingerprint=keys.public.fingerprint)
    return KeyRing(keys)


async def _upload(keys: KeyRing, welcome: Welcome, channel: grpc.aio.Channel) -> bytes:
    """Sets the organization's public key; if another node of it was quicker, says which key that one has set."""
    stub = OrganizationServiceStub(channel)
    request = UpdateOrganizationRequest(id=welcome.organization_id, public_key=keys.public.to_pem())
    try:
        answer = await stub.UpdateOrganization(request)
        log.info("public_key_uploaded", fingerprint=keys.public.fingerprint)
    except grpc.aio.AioRpcError as error:
        failure = from_rpc_error(error)
        if not isinstance(failure, FailedPrecondition):
            raise failure from error
        answer = await stub.GetOrganization(GetOrganizationRequest(id=welcome.organization_id))
    return answer.public_key or keys.public.to_pem()
