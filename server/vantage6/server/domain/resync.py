"""Brings a replica back into step after it may have missed signals: they are hints, the tables are the truth."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from vantage6.api.v1 import delivery_pb2
from vantage6.server.domain.bus import Bus
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.events import announce_node
from vantage6.server.domain.links import Link
from vantage6.server.domain.states import ACTIVE
from vantage6.server.store.parties import Newest
from vantage6.server.store.sql import Database, Store

log = structlog.get_logger()


async def resync(database: Database, bus: Bus, links: Collection[Link]) -> dict[Link, Newest | None]:
    """Puts the nodes' online marks right and stops runs that are no longer wanted.

    Returns the links that are not their node's newest connection any more, with what is; None where there is no node.
    """
    ids = {link.node.id for link in links}

    async def look(store: Store) -> tuple[list[NodeCaller], dict[int, Newest]]:
        current = await store.parties.connections(ids)
        await store.parties.still_online([link.node.id for link in links if link.is_newest(current)])
        gone = await store.parties.forget_replicas(bus.replica)
        return [NodeCaller(row.id, row.name, row.organization_id, row.collaboration_id, 0) for row in gone], current

    gone, current = await database.transact(look)
    for node in gone:
        log.info("node_offline", node_id=node.id, name=node.name, why="its server is gone")
        announce_node(bus, node, online=False)
    stale = {link: current.get(link.node.id) for link in links if not link.is_newest(current)}
    await _stop_unwanted(database, [link for link in links if link not in stale])
    return stale


async def _stop_unwanted(database: Database, links: Collection[Link]) -> None:
    held = [(link, result_id, run) for link in links for result_id, run in link.active.items()]
    if not held:
        return
    async with database.read() as store:
        rows = await store.results.by_ids({result_id for _, result_id, _ in held})
    for link, result_id, run in held:
        row = rows.get(result_id)
        wanted = row is not None and row.epoch == run.epoch and row.state in ACTIVE
        if wanted or link.active.get(result_id) is not run:
            continue
        cancel = delivery_pb2.Cancel(result_id=result_id, epoch=run.epoch, reason="LEASE_LOST")
        link.send(delivery_pb2.ServerMessage(cancel=cancel))
        link.released(result_id)
