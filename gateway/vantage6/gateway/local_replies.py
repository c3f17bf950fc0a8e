"""Errors that the gateway itself answers, in the shape of the server's: code, message, msg, details."""

from __future__ import annotations

from typing import Any, Final

from vantage6.gateway.limits import TOO_MANY

Json = dict[str, Any]

# HTTP status → gRPC code and reason, the inverse of what the transcoder does with the server's errors.
_MEANING: Final = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    405: (12, "UNIMPLEMENTED"),
    408: (4, "DEADLINE_EXCEEDED"),
    413: (8, "RESOURCE_EXHAUSTED"),
    426: (12, "HTTP_VERSION_TOO_OLD"),
    429: (8, "RESOURCE_EXHAUSTED"),
    431: (8, "RESOURCE_EXHAUSTED"),
    500: (13, "INTERNAL"),
    502: (14, "UNAVAILABLE"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}
# Where the filter's own words are a name, not a sentence.
_WORDS: Final = {429: (TOO_MANY,)}


def local_reply_config() -> Json:
    """Native gRPC callers keep the plain text, which goes into `grpc-message`; everybody else gets JSON."""
    limited = _status(429)
    return {
        "mappers": [
            {
                "filter": _both(_native_grpc(), limited),
                "body_format_override": {"text_format_source": _inline(TOO_MANY)},
            },
            {"filter": _native_grpc(), "body_format_override": {"text_format_source": _inline("%LOCAL_REPLY_BODY%")}},
            *(
                {"filter": _status(status), "body_format_override": _format(code, reason, *_WORDS.get(status, ()))}
                for status, (code, reason) in _MEANING.items()
            ),
        ],
        "body_format": _format(2, "UNKNOWN"),
    }


def _both(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _native_grpc() -> Json:
    # The transcoder turns a REST request into one of type application/grpc, and then leaves its path in this header.
    kind = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    transcoded = {"name": "x-envoy-original-path", "present_match": True, "invert_match": True}
    return _both({"header_filter": {"header": kind}}, {"header_filter": {"header": transcoded}})


def _status(status: int) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"gateway.status_{status}"}}
    return {"status_code_filter": {"comparison": comparison}}


def _format(code: int, reason: str, text: str = "%LOCAL_REPLY_BODY%") -> Json:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "vantage6"}
    return {
        "json_format": {
            "code": code,
            "message": text,
            "msg": text,
            "details": [detail],
        },
        "content_type": "application/json",
    }


def _inline(text: str) -> Json:
    return {"inline_string": text}
