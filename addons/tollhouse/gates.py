"""The gates of the road, in the order in which they are asked. The head of `gateway` says what each is for."""

from __future__ import annotations

from typing import NamedTuple

from tollhouse.admit.bodies import BodyBytes
from tollhouse.admit.by_model import ByModel
from tollhouse.admit.call_limits import CallLimits
from tollhouse.admit.connection_limits import ConnectionLimits
from tollhouse.admit.gate import admit_gates
from tollhouse.admit.identifying import Accounts, Identifier
from tollhouse.admit.models import Models
from tollhouse.admit.reading import ReadBody
from tollhouse.admit.upload_spool import UploadSpool
from tollhouse.admit.uploads import Uploads
from tollhouse.budget.afterwards import Afterwards, Recall
from tollhouse.budget.purse import Purse
from tollhouse.config.load import Config
from tollhouse.conversation import SocketParts
from tollhouse.credential.cache import KeyCache
from tollhouse.fallback import Fallbacks
from tollhouse.operators.hooks_run import Addons
from tollhouse.operators.on_road import AddonsOnRoad
from tollhouse.prices.table import PriceTable
from tollhouse.providers import Catalog
from tollhouse.share import Share
from tollhouse.socket_ties import SocketBounds
from tollhouse.trip import Gate


class RoadGates(NamedTuple):
    """The gates, and what works with some of them besides."""

    in_order: list[Gate]
    on_road: AddonsOnRoad | None
    """The operator's own addons, if there are any that see calls."""
    fallbacks: Fallbacks
    sockets: SocketParts


def road_gates(
    config: Config,
    share: Share,
    *,
    catalog: Catalog,
    accounts: Accounts,
    identifier: Identifier,
    addons: Addons | None,
    bodies: BodyBytes,
    upload_spool: UploadSpool | None,
    prices: PriceTable,
    afterwards: Afterwards,
    purse: Purse,
    keys: KeyCache,
) -> RoadGates:
    """The gates as ``config`` wants them, of what the gateway has opened. They open nothing."""
    limits = config.limits
    admit = admit_gates(
        catalog,
        accounts,
        identifier,
        base_url_hosts=config.listen.base_url_names,
        project_header=config.headers.project,
        trace_header=config.headers.trace,
    )
    read = ReadBody(
        max_body_bytes=limits.max_body_bytes,
        idle_s=limits.request_timeout_s,
        window=prices.window,
        bodies=bodies,
        uploads=Uploads(
            largest=max(limits.max_upload_bytes, limits.max_body_bytes),
            max_body_bytes=limits.max_body_bytes,
            idle_s=limits.request_timeout_s,
            spool=upload_spool,
        ),
    )
    by_model = ByModel(catalog, config.routes, read)
    models = Models()
    recall = Recall(afterwards)
    calls = CallLimits(
        share.of(limits.max_calls),
        of_source=share.of(limits.max_calls_per_source or -(-limits.max_calls * 3 // 4)),
        of_token=share.of(limits.max_calls_per_token or -(-limits.max_calls // 2)),
        connections=ConnectionLimits(
            of_token=share.of(limits.max_connections_per_token or -(-limits.max_connections // 2)),
            of_tenant=share.of(
                limits.max_connections_per_tenant or -(-limits.max_connections * 3 // 4)
            ),
        ),
    )
    on_road: AddonsOnRoad | None = None
    own: list[Gate] = []
    if addons is not None and addons.want_flows:
        names = frozenset({config.headers.project.lower(), config.headers.trace.lower()})
        on_road = AddonsOnRoad(addons, read, bodies, names)
        own = [on_road]
    own.append(read)
    return RoadGates(
        [*admit, calls, purse.place, *own, by_model, models, recall, purse],
        on_road,
        Fallbacks(catalog, read, models, purse.enlarging, keys),
        SocketParts(
            read,
            models,
            SocketBounds(
                min(limits.websocket_message_bytes, limits.max_body_bytes),
                limits.websocket_idle_s,
                limits.websocket_max_s,
            ),
        ),
    )
