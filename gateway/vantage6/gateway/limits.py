"""How much one caller may ask for: requests for each address, and connections in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vantage6.gateway.config import GatewayConfig

Json = dict[str, Any]

RATE_LIMIT = "rate limit"
TOO_MANY = "too many requests from your address; try again in a second"

_KEY = "masked_remote_address"
_MOST_ADDRESSES = 10_000
_NO_LIMIT: Json = {"max_tokens": 2**32 - 1, "tokens_per_fill": 2**32 - 1, "fill_interval": "1s"}
_ALWAYS: Json = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
# Who has one IPv6 address has a whole /64 of them.
_ADDRESS: Json = {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}


def rate_limit(config: GatewayConfig) -> Json:
    """Settings of the filter: a bucket of tokens for each address, filled again and again."""
    bucket = {
        "max_tokens": max(config.request_burst, config.requests_per_second),
        "tokens_per_fill": config.requests_per_second,
        "fill_interval": "1s",
    }
    return {
        "stat_prefix": "rate",
        "filter_enabled": _ALWAYS | {"runtime_key": "gateway.rate_limit"},
        "filter_enforced": _ALWAYS | {"runtime_key": "gateway.rate_limit_enforced"},
        "token_bucket": _NO_LIMIT,
        "always_consume_default_token_bucket": False,
        # A descriptor without a value stands for all values; the addresses that were longest silent are forgotten.
        "descriptors": [{"entries": [{"key": _KEY}], "token_bucket": bucket}],
        "rate_limits": [{"actions": [{_KEY: _ADDRESS}]}],
        "max_dynamic_descriptors": _MOST_ADDRESSES,
        # Of native gRPC callers: UNAVAILABLE would be tried again at once.
        "rate_limited_as_resource_exhausted": True,
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
    }


def overload(config: GatewayConfig) -> Json:
    """Connections of everybody together; more are not accepted."""
    name = "envoy.resource_monitors.global_downstream_max_connections"
    kind = "downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {
        "@type": f"type.googleapis.com/envoy.extensions.resource_monitors.{kind}",
        "max_active_downstream_connections": config.max_connections,
    }
    return {"resource_monitors": [{"name": name, "typed_config": monitor}]}
