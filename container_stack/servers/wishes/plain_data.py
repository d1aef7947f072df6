# SPDX-License-Identifier: Apache-2.0
"""JSON and YAML of strangers, read within bounds into texts, lists and objects.

YAML is read without what has ever been used for attacks: no tags, no aliases, no merging. Its
scalars stay the texts that were written (so that ``1.10`` is no 1.1 and ``22:22`` no number of
seconds), but for ``null``. JSON's numbers stay texts likewise.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from container_stack import exceptions

#: Levels of nesting, and values altogether; a container's whole description takes 4 and some 100.
MAX_DEPTH = 12
MAX_VALUES = 10_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TAGS = frozenset({None, "!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))})


class NotReadable(exceptions.InvalidRequest):
    """It is neither JSON nor YAML."""


class NotRead(NotReadable):
    """It is an object, and holds what isn't read here; nobody writes such by accident."""


def read(text: str) -> Mapping[str, object] | None:
    """Return the object that a text is, or None where it is none but something else.

    Values are None, texts, bools (from JSON only), lists and objects.

    :raises NotReadable: it can't be read; the message says where.
    """
    value = _either(text) if text.lstrip().startswith("{") else _yaml(text)
    if value is not None:
        _check(value, 1, [0])
    return value


def _either(text: str) -> dict[str, object] | None:
    try:
        return _json(text)
    except NotRead:
        raise
    except NotReadable as exc:
        try:
            return _yaml(text)
        except NotRead:
            raise
        except NotReadable:
            raise exc from None


def _json(text: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(
            text, parse_int=str, parse_float=str, parse_constant=_refused, object_pairs_hook=_object
        )
        return found
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}"
        raise NotReadable(f"It is no JSON: {exc.msg} at {where}.") from exc
    except RecursionError as exc:
        raise NotRead(_too_deep()) from exc


def _refused(constant: str) -> object:
    raise NotRead(f"{constant} can't be a value.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotRead(f"Key {shown(key)} is there twice.")
        found[key] = value
    return found


def _yaml(text: str) -> dict[str, object] | None:
    try:
        loader = yaml.SafeLoader(text)
        try:
            return _Document(loader).top()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise NotReadable(f"It is no YAML: {exc.problem}{where}.") from exc
    except yaml.YAMLError as exc:
        raise NotReadable("It is no YAML: it holds characters that can't be in a text.") from exc


class _Document:
    """The one document of a stream of YAML, built while it is parsed."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._values = 0

    def top(self) -> dict[str, object] | None:
        """Return the document; None when it is none, or no object, and isn't read any further."""
        self._next(yaml.StreamStartEvent)
        if isinstance(self._loader.peek_event(), yaml.StreamEndEvent):
            return None
        self._next(yaml.DocumentStartEvent)
        if not isinstance(self._loader.get_event(), yaml.MappingStartEvent):
            return None
        value = self._mapping(1)
        self._next(yaml.DocumentEndEvent)
        if not isinstance(self._loader.peek_event(), yaml.StreamEndEvent):
            raise NotRead("It is several documents of YAML; give one.")
        return value

    def _next(self, kind: type[yaml.Event]) -> None:
        event = self._loader.get_event()
        if not isinstance(event, kind):
            raise NotReadable(f"It is no YAML: {type(event).__name__} came first.")

    def _value(self, depth: int) -> object:
        event = self._loader.get_event()
        self._values += 1
        if self._values > MAX_VALUES:
            raise NotRead(_too_many())
        if depth > MAX_DEPTH:
            raise NotRead(_too_deep())
        if isinstance(event, yaml.AliasEvent):
            raise NotRead("Aliases of YAML aren't read here; write the value again.")
        if event.tag not in _TAGS:
            raise NotRead("Tags of YAML aren't read here; leave them out.")
        if isinstance(event, yaml.ScalarEvent):
            return None if event.implicit[0] and event.value in _NULL else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(depth)
        return self._mapping(depth)

    def _list(self, depth: int) -> list[object]:
        found = []
        while not isinstance(self._loader.peek_event(), yaml.SequenceEndEvent):
            found.append(self._value(depth + 1))
        self._loader.get_event()
        return found

    def _mapping(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(self._loader.peek_event(), yaml.MappingEndEvent):
            key = self._value(depth + 1)
            if not isinstance(key, str):
                raise NotRead("A key of an object must be a text.")
            if key in found:
                raise NotRead(f"Key {shown(key)} is there twice.")
            found[key] = self._value(depth + 1)
        self._loader.get_event()
        return found


def _check(value: object, depth: int, count: list[int]) -> None:
    """Refuse what is too deep, too much, or holds texts that no program can be given."""
    count[0] += 1
    if count[0] > MAX_VALUES:
        raise NotRead(_too_many())
    if depth > MAX_DEPTH:
        raise NotRead(_too_deep())
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1, count)
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_text(key)
            _check(each, depth + 1, count)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise NotRead("It holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise NotRead("It holds half of a surrogate pair.") from exc


def _too_deep() -> str:
    return f"It is nested more than {MAX_DEPTH} levels deep."


def _too_many() -> str:
    return f"It holds more than {MAX_VALUES} values."


def shown(value: object) -> str:
    """Return a stranger's value as an error may show it: short, and on one line."""
    text = repr(value)
    return text if len(text) <= 64 else f"{text[:60]}..."
