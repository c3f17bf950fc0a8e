"""The OpenAPI description as one page for people: no script, nothing from elsewhere."""

from __future__ import annotations

import functools
from html import escape
from typing import Any

from vantage6.server.openapi import document
from vantage6.server.openapi_schemas import Json

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{white-space:pre-wrap;margin:.5rem 0}
details{border:1px solid #ccc;border-radius:4px;margin:.4rem 0;padding:.3rem .7rem}summary{cursor:pointer}
summary b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;border-top:1px solid #ddd;padding:.25rem .5rem .25rem 0}h2{margin-top:2.2rem}
"""


@functools.cache
def page_bytes() -> bytes:
    api = document()
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>vantage6 REST interface</title><style>{_STYLE}</style>",
        f"<h1>vantage6 REST interface {escape(api['info']['version'])}</h1>",
        f"<p>{escape(api['info']['description'])}</p>",
        "<p>For programs: <a href='/api/openapi.json'>openapi.json</a>.</p>",
    ]
    for tag in api["tags"]:
        name = tag["name"]
        parts.append(f"<h2>{escape(name)}</h2><p>{escape(tag['description'])}</p>")
        for path, verbs in api["paths"].items():
            parts += [_operation(path, verb, what) for verb, what in verbs.items() if name in what["tags"]]
    parts.append("<h2>Resources</h2>")
    parts += [_resource(name, schema) for name, schema in api["components"]["schemas"].items()]
    return "\n".join(parts).encode()


def _operation(path: str, verb: str, what: Json) -> str:
    rows = [_row(entry["name"], entry["schema"], entry["in"], entry.get("description", ""))
            for entry in what["parameters"]]  # fmt: skip
    for kind, media in what.get("requestBody", {}).get("content", {}).items():
        schema = media["schema"]
        if "properties" not in schema:
            rows.append(_row(kind, schema, "body", ""))
        rows += [_row(name, entry, "body", entry.get("description", ""))
                 for name, entry in schema.get("properties", {}).items()]  # fmt: skip
    return (
        f"<details id='{escape(what['operationId'])}'><summary><b>{verb.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(what['summary'])}</summary><pre>{escape(what['description'])}</pre>{_table(rows)}"
        f"<p>Answers {_answers(what['responses'])}</p></details>"
    )


def _answers(responses: dict[str, Any]) -> str:
    found = []
    for code, answer in responses.items():
        content = answer.get("content", {})
        shapes = ", ".join(f"{escape(kind)} {_shape(media['schema'])}" for kind, media in content.items())
        found.append(f"{escape(code)} {shapes}" if shapes else f"otherwise {_shape({'$ref': '/Error'})}")
    return "; ".join(found)


def _resource(name: str, schema: Json) -> str:
    rows = [_row(field, entry, "", entry.get("description", "")) for field, entry in schema["properties"].items()]
    text = escape(schema.get("description", ""))
    title = f"<summary><b>{escape(name)}</b></summary>"
    return f"<details id='schema-{escape(name)}'>{title}<p>{text}</p>{_table(rows)}</details>"


def _table(rows: list[str]) -> str:
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _row(name: str, schema: Json, place: str, text: str) -> str:
    cells = (f"<code>{escape(name)}</code>", escape(place), _shape(schema), escape(text))
    return f"<tr>{''.join(f'<td>{cell}' for cell in cells)}"


def _shape(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#schema-{name}'>{name}</a>"
    if schema.get("type") == "array":
        return f"list of {_shape(schema['items'])}"
    if "enum" in schema:
        return " | ".join(map(escape, schema["enum"]))
    return escape(" ".join(filter(None, (schema.get("type", "any"), schema.get("format", "")))))
