"""Configuration files: YAML whose every complaint names the file, the line, the key and the nearest valid one.

The values are never part of a complaint: one of them may be a secret.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vantage6.common.errors import InvalidArgument

LARGEST_FILE = 1024 * 1024
APPLICATION = "application"
ENVIRONMENTS = ("prod", "acc", "test", "dev")
"""Besides `application`: variants of one configuration, each of them whole."""

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]


class ConfigError(InvalidArgument):
    """The configuration cannot be used; the message names file, line, key and fix."""


class NotYaml(ConfigError):
    """The file is no YAML, or no mapping."""


class FileMissing(ConfigError):
    """There is no such file."""


class FileClosed(ConfigError):
    """This user may not read the file."""


@dataclass(frozen=True)
class Document:
    """A file's content, and in which line each of its keys stands."""

    path: Path
    content: Mapping[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)

    def environments(self) -> list[str]:
        """The names of the configurations in the file, `application` first."""
        more = self.content.get("environments") or {}
        return [name for name in (APPLICATION, *ENVIRONMENTS) if name in more or name in self.content]

    def place(self, environment: str) -> Place:
        """Where an environment stands in the file."""
        return (APPLICATION,) if environment == APPLICATION else ("environments", environment)

    def section(self, environment: str) -> Mapping[str, Any]:
        """The settings of one environment; raises ConfigError if there are none."""
        if environment not in self.environments():
            there = ", ".join(self.environments()) or "none"
            raise ConfigError(f"{self.path}: there is no environment {environment!r}; there are: {there}")
        section = self.content
        for key in self.place(environment):
            section = section[str(key)]
        if not isinstance(section, dict):
            raise self.error(self.place(environment), "a mapping of settings is expected here, 'key: value' below it")
        return section

    def error(self, place: Place, text: str) -> ConfigError:
        """A complaint about one place; of several lines, the one where the key stands."""
        return ConfigError(self.described(place, text))

    def described(self, place: Place, text: str) -> str:
        line = next((self.lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in self.lines), 1)
        name = ".".join(str(part) for part in place)
        return f"{self.path}, line {line}{f' ({name})' if name else ''}: {text}"


_EXPECTED = "a mapping 'application:' (or 'environments:') with the settings below it is expected at the top"


class _Loader(yaml.SafeLoader):
    """Safe loader without anchors: a configuration has no use for them, and nested ones fill the memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def read(path: Path) -> Document:
    """Reads a file with `application:` and `environments:`, one of them at least; raises ConfigError."""
    return _checked(load_yaml(path))


def load_yaml(path: Path) -> Document:
    """Reads any mapping, with the lines of its keys; raises ConfigError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{path}: larger than {LARGEST_FILE} bytes; this is no configuration file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        kind = {FileNotFoundError: FileMissing, PermissionError: FileClosed}.get(type(error), ConfigError)
        raise kind(f"configuration file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotYaml(f"{path} is no valid YAML: it is not text in UTF-8") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node is not None else None
    # ValueError: a date or number that looks like one and is none.
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NotYaml(f"{path} is no valid YAML: {_where(error)}") from error
    lines: dict[Place, int] = {}
    if node is not None:
        _index(path, node, (), lines)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {_EXPECTED}" if content is not None else f"{path} is empty: {_EXPECTED}")
    return Document(path, content, lines)


def _where(error: Exception) -> str:
    """Line and complaint of the parser, without the text around it, in which there may be a secret."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, yaml.YAMLError):
        return "a date or a number in it is none; put texts between quotes"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _index(path: Path, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                first = lines[inner]
                raise ConfigError(f"{path}, line {line}: key {key.value!r} is there twice (first in line {first})")
            lines[inner] = line
            _index(path, value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _index(path, value, (*place, index), lines)


def _checked(document: Document) -> Document:
    content = document.content
    for key in content:
        if key not in {APPLICATION, "environments"}:
            hint = _nearest(str(key), [APPLICATION, "environments"])
            text = f"unknown key {str(key)!r}{hint}; all settings stand below 'application:'"
            raise document.error((str(key),), text)
    environments = content.get("environments")
    if environments is not None and not isinstance(environments, dict):
        raise document.error(("environments",), "a mapping of prod, acc, test or dev is expected here")
    for name in environments or {}:
        if name not in ENVIRONMENTS:
            known = _nearest(str(name), ENVIRONMENTS)
            raise document.error(("environments", str(name)), f"unknown environment {str(name)!r}{known}")
    if not document.environments():
        raise ConfigError(f"{document.path}: {_EXPECTED}")
    return document


def validate(document: Document, environment: str, model: type[Model]) -> Model:
    """The settings of one environment as `model`; all that is wrong with them is said at once."""
    return validate_at(document, document.place(environment), document.section(environment), model)


def validate_at(document: Document, place: Place, section: Mapping[str, Any], model: type[Model]) -> Model:
    """What stands at one place of a document, as `model`."""
    try:
        return model.model_validate(section)
    except ValidationError as error:
        reasons = dict.fromkeys(
            document.described((*place, *_seen(document, place, item["loc"])), _reason(model, dict(item)))
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError("\n".join(reasons)) from error


def _seen(document: Document, place: Place, location: Place) -> Place:
    """Without the names of union members, which pydantic adds and the file does not have."""
    for size in range(len(location), 0, -1):
        if (*place, *location[:size]) in document.lines:
            return location[:size]
    return ()


def _reason(model: type[BaseModel], item: dict[str, Any]) -> str:
    location: Place = item["loc"]
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = list(section_of(model, location[:-1]).model_fields)
        return f"unknown key {key!r}{_nearest(str(location[-1]), known)}"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    text = item["msg"].removeprefix("Value error, ")
    return f"key {key!r}: {text}" if key else text


def _nearest(word: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    match = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else f"; known are {', '.join(known)}"


def section_of(model: type[BaseModel], location: Place) -> type[BaseModel]:
    """The model of a nested section: `limits`, or `databases.default` of a mapping of sections."""
    for part in location:
        known = model.model_fields.get(str(part))
        inner = _model_in(known.annotation) if known is not None else None
        model = inner or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {typing.Union, types.UnionType, dict, list, tuple, typing.Annotated}:
        found = (_model_in(each) for each in get_args(annotation))
        return next((each for each in found if each is not None), None)
    return None
