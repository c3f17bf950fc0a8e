"""Turns our few settings into Envoy's many: listener, filters, upstream servers.

Everything is in docs/gateway.md, with the reasons. Names of fields are Envoy's own (its v3 API).
"""

from __future__ import annotations

import ipaddress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vantage6.gateway import routes
from vantage6.gateway.config import MIB, GatewayConfig, Tls, split_address
from vantage6.gateway.contract import Binding, bindings, services
from vantage6.gateway.limits import RATE_LIMIT, overload, rate_limit
from vantage6.gateway.local_replies import local_reply_config

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HTTP2: Json = {
    # Large enough for 1 GB/s of payload chunks on one stream, small enough that a slow reader costs little.
    "initial_stream_window_size": MIB,
    "initial_connection_window_size": 4 * MIB,
    # Finds peers that vanished without a word; streams themselves have no time-out.
    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
}


def render(config: GatewayConfig, *, admin_socket: Path | None = None) -> Json:
    """The complete Envoy configuration. Without `admin_socket` there is no administration interface at all."""
    found = bindings(config.descriptors)
    rendered: Json = {
        "node": {"id": "gateway", "cluster": "vantage6"},
        "static_resources": {"listeners": [_listener(config, found)], "clusters": [_cluster(config)]},
        "overload_manager": overload(config),
    }
    if admin_socket:
        # A socket that only this user can open; never a port.
        rendered["admin"] = {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}}
    return rendered


def _listener(config: GatewayConfig, found: list[Binding]) -> Json:
    chain: Json = {"filters": [_typed("http", f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager")]}
    chain["filters"][0]["typed_config"] |= _connection_manager(config, found)
    if config.tls:
        chain["transport_socket"] = _transport_socket(config.tls)
        chain["transport_socket_connect_timeout"] = f"{config.header_seconds}s"
    return {
        "name": "door",
        "address": _socket_address(config.listen),
        # A port that somebody else has is an error, not something to share.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": MIB,
        "filter_chains": [chain],
    }


def _transport_socket(tls: Tls) -> Json:
    certificate = {
        "certificate_chain": {"filename": str(tls.certificate)},
        "private_key": {"filename": str(tls.key)},
    }
    context: Json = {
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
        }
    }
    socket = _typed("envoy.transport_sockets.tls", f"{_TLS}.DownstreamTlsContext")
    socket["typed_config"] |= context
    return socket


def _connection_manager(config: GatewayConfig, found: list[Binding]) -> Json:
    return {
        "stat_prefix": "door",
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "xff_num_trusted_hops": config.trusted_proxies,
        "skip_xff_append": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "max_request_headers_kb": config.max_header_kib,
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": _HTTP2 | {"max_concurrent_streams": config.max_streams_per_connection},
        "request_headers_timeout": f"{config.header_seconds}s",
        # The routes set their own; this is for requests that match none.
        "stream_idle_timeout": f"{config.rest_idle_seconds}s",
        "early_header_mutation_extensions": [_remove_what_only_we_may_say()],
        "local_reply_config": local_reply_config(),
        "access_log": _access_log(config),
        "route_config": routes.route_config(config, found),
        "http_filters": _filters(config, found),
    }


def _remove_what_only_we_may_say() -> Json:
    """Drops headers by which a client would pose as a REST caller, or write another path into the log."""
    kind = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    removal = _typed("envoy.http.early_header_mutation.header_mutation", kind)
    names = (routes.DOOR, "x-envoy-original-path", "x-envoy-original-method", "x-http-code")
    removal["typed_config"]["mutations"] = [{"remove": name} for name in names]
    return removal


def _filters(config: GatewayConfig, found: list[Binding]) -> list[Json]:
    """In the order that a request passes them; an answer passes them from the last to the first."""
    headers = _typed(routes.SECURITY_HEADERS, f"{_HTTP}.header_mutation.v3.HeaderMutation", disabled=True)
    headers["typed_config"]["mutations"] = {"response_mutations": _security_headers(config)}
    limit = _typed(routes.BODY_LIMIT, f"{_HTTP}.buffer.v3.Buffer", disabled=True)
    limit["typed_config"]["max_request_bytes"] = config.max_body_bytes
    lua = _typed(routes.REST_ANSWER, f"{_HTTP}.lua.v3.Lua", disabled=True)
    lua["typed_config"]["default_source_code"] = {
        "inline_string": files("vantage6.gateway").joinpath("rest.lua").read_text()
    }
    transcoder = _typed("transcoder", f"{_HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder")
    transcoder["typed_config"] |= _transcoder(config, found)
    rate = _typed(RATE_LIMIT, f"{_HTTP}.local_ratelimit.v3.LocalRateLimit", disabled=True)
    rate["typed_config"] |= rate_limit(config)
    router = _typed("router", f"{_HTTP}.router.v3.Router")
    router["typed_config"]["suppress_envoy_headers"] = True
    return [
        headers,
        _typed(routes.CORS, f"{_HTTP}.cors.v3.Cors"),
        *([rate] if config.requests_per_second else []),
        limit,
        _typed("grpc web", f"{_HTTP}.grpc_web.v3.GrpcWeb"),
        lua,
        transcoder,
        router,
    ]


def _transcoder(config: GatewayConfig, found: list[Binding]) -> Json:
    return {
        "proto_descriptor": str(config.descriptors),
        "services": services(found),
        # Routes are chosen by the path that the client asked for, so that only /api gets the door's mark.
        "match_incoming_request_route": True,
        "convert_grpc_status": True,
        "query_param_unescape_plus": True,
        "max_response_body_size": config.max_response_bytes,
        "print_options": {"preserve_proto_field_names": True},
        "request_validation_options": {"reject_unknown_method": True, "reject_unknown_query_parameters": True},
    }


def _security_headers(config: GatewayConfig) -> list[Json]:
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    if config.tls:
        headers["strict-transport-security"] = "max-age=31536000"
    added = [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in headers.items()
    ]
    return [*added, {"remove": "server"}, {"remove": "x-powered-by"}]


def _access_log(config: GatewayConfig) -> list[Json]:
    """One JSON line per call. No header that may hold a secret, and no query."""
    if config.access_log == "none":
        return []
    line = {
        "time": "%START_TIME%",
        "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "received": "%BYTES_RECEIVED%",
        "sent": "%BYTES_SENT%",
        "ms": "%DURATION%",
        "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "server": "%UPSTREAM_HOST%",
        "request": "%REQ(X-REQUEST-ID)%",
    }
    kind = "type.googleapis.com/envoy.extensions.access_loggers"
    if config.access_log == "stdout":
        log = _typed("access log", f"{kind}.stream.v3.StdoutAccessLog")
    else:
        log = _typed("access log", f"{kind}.file.v3.FileAccessLog")
        log["typed_config"]["path"] = str(config.access_log)
    log["typed_config"]["log_format"] = {"json_format": line}
    return [log]


def _cluster(config: GatewayConfig) -> Json:
    endpoints = [{"endpoint": {"address": _socket_address(server)}} for server in config.servers]
    options = _typed("http", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions")[
        "typed_config"
    ]
    options["explicit_http_config"] = {"http2_protocol_options": _HTTP2}
    everything = 2**32 - 1
    cluster: Json = {
        "name": routes.SERVER,
        "type": "STATIC" if all(_is_ip(server) for server in config.servers) else "STRICT_DNS",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": MIB,
        "load_assignment": {"cluster_name": routes.SERVER, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        # Envoy's own limit of 1,024 requests would refuse the 1,025th node. The listener limits connections.
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": everything, "max_pending_requests": everything, "max_requests": everything}
            ]
        },
    }
    if len(config.servers) > 1:
        cluster |= _health()
    return cluster


def _health() -> Json:
    """Takes servers out that cannot be reached. An error that a server answers says nothing about its health."""
    return {
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "5s",
                "no_traffic_interval": "5s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "tcp_health_check": {},
            }
        ],
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
        },
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
    }


def _socket_address(address: str) -> Json:
    host, port = split_address(address)
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(split_address(address)[0])
    except ValueError:
        return False
    return True


def _typed(name: str, kind: str, *, disabled: bool = False) -> Json:
    entry: Json = {"name": name, "typed_config": {"@type": kind}}
    if disabled:
        entry["disabled"] = True
    return entry
