"""Which request goes through which door, and what is added to it on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vantage6.gateway.contract import PACKAGE, Binding
from vantage6.gateway.limits import RATE_LIMIT

if TYPE_CHECKING:
    from vantage6.gateway.config import GatewayConfig

Json = dict[str, Any]

DOOR = "x-vantage6-door"
"""Metadata by which the server knows a REST caller. Only the gateway sets it: what a client sends is dropped."""

SERVER = "server"
BODY_LIMIT = "body limit"
REST_ANSWER = "rest answer"
SECURITY_HEADERS = "security headers"
CORS = "envoy.filters.http.cors"

_TYPES = "type.googleapis.com/envoy.extensions.filters.http"


def route_config(config: GatewayConfig, bindings: list[Binding]) -> Json:
    """One virtual host for all names; the first route that matches counts."""
    paths = sorted({binding.path for binding in bindings})
    creating = sorted({binding.path for binding in bindings if binding.creates})
    unlimited = [path for path in paths if path.endswith("/content")]
    endless = [path for path in paths if path == "/api/event"]
    routes = [
        *(_rest(_template(path), config, limited=False, endless=True) for path in unlimited),
        *(_rest({"path": path}, config, endless=True) for path in endless),
        *(_rest({"path": path, "headers": [_POST]}, config, created=True) for path in creating),
        _page(_rest({"path": "/api/docs"}, config)),
        _rest({"path_separated_prefix": "/api"}, config),
        # Thousands of nodes may come back at once, behind one address perhaps; their streams do not count.
        _grpc({"path": f"/{PACKAGE}.DeliveryService/Connect"}, config),
        *(_grpc({"prefix": prefix}, config, counted=True) for prefix in (f"/{PACKAGE}.", "/grpc.health.v1.")),
        _nothing_here(),
    ]
    return {
        "virtual_hosts": [{"name": "every name", "domains": ["*"], "routes": routes}],
        "request_headers_to_add": [_caller_address()],
        "ignore_port_in_host_matching": True,
    }


_POST: Json = {"name": ":method", "string_match": {"exact": "POST"}}


def _template(path: str) -> Json:
    """Matches `/api/payload/{id}/content` with whatever stands for the variable."""
    template = {
        "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        "path_template": path,
    }
    return {
        "path_match_policy": {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": template}
    }


def _rest(
    match: Json, config: GatewayConfig, *, limited: bool = True, endless: bool = False, created: bool = False
) -> Json:
    idle = "0s" if endless else f"{config.rest_idle_seconds}s"
    filters: Json = {REST_ANSWER: _enabled(), SECURITY_HEADERS: _enabled()}
    if limited:
        buffer = {"@type": f"{_TYPES}.buffer.v3.BufferPerRoute", "buffer": {"max_request_bytes": config.max_body_bytes}}
        filters[BODY_LIMIT] = buffer
    if config.requests_per_second:
        filters[RATE_LIMIT] = _enabled()
    if config.cors_origins:
        filters[CORS] = _cors(config)
    ends = {} if endless else {"max_stream_duration": {"max_stream_duration": f"{config.rest_seconds}s"}}
    route: Json = {
        "match": match,
        "route": {"cluster": SERVER, "timeout": "0s", "idle_timeout": idle, "retry_policy": _retries()} | ends,
        "request_headers_to_add": [_overwrite(DOOR, "rest")],
        "typed_per_filter_config": filters,
    }
    if created:
        # Read by rest.lua; a code that the server chose stays.
        code = {"key": "x-http-code", "value": "201"}
        route["response_headers_to_add"] = [{"header": code, "append_action": "ADD_IF_ABSENT"}]
    return route


def _page(route: Json) -> Json:
    """The one answer that is a page: it brings its style along, and still no script."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    override = {
        "@type": f"{_TYPES}.header_mutation.v3.HeaderMutationPerRoute",
        "mutations": {"response_mutations": [{"append": _overwrite("content-security-policy", policy)}]},
    }
    route["typed_per_filter_config"][SECURITY_HEADERS] = _enabled() | {"config": override}
    return route


def _grpc(match: Json, config: GatewayConfig, *, counted: bool = False) -> Json:
    """gRPC and grpc-web; anything else at these paths is refused by the transcoder, which knows no such path."""
    filters: Json = {CORS: _cors(config)} if config.cors_origins else {}
    if counted and config.requests_per_second:
        filters[RATE_LIMIT] = _enabled()
    return {
        "match": match,
        # No time-outs: a node's stream and a watch live for ever. HTTP/2 pings find the dead ones.
        "route": {"cluster": SERVER, "timeout": "0s", "idle_timeout": "0s", "retry_policy": _retries()},
        "typed_per_filter_config": filters,
    }


def _nothing_here() -> Json:
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": "unknown path: the REST interface is under /api"}},
        "typed_per_filter_config": {SECURITY_HEADERS: _enabled()},
    }


def _retries() -> Json:
    # Only what cannot have reached a server, so that nothing is done twice.
    policy: Json = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}
    policy["retry_host_predicate"] = [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ]
    return policy


def _caller_address() -> Json:
    """The server throttles by this address, so it is one that the gateway has seen and not one that a client wrote."""
    return _overwrite("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")


def _overwrite(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _enabled() -> Json:
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def _cors(config: GatewayConfig) -> Json:
    return {
        "@type": f"{_TYPES}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in config.cors_origins],
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": "authorization, content-type, last-event-id, grpc-timeout, x-grpc-web, x-user-agent",
        "expose_headers": "link, x-total-count, x-request-id, grpc-status, grpc-message, grpc-status-details-bin",
        "max_age": "600",
        "allow_credentials": False,
        "forward_not_matching_preflights": False,
    }
