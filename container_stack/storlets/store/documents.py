# SPDX-License-Identifier: Apache-2.0
"""JSON documents that say what they are, and are believed only if they are whole.

A document names its kind, the version of its form, and the account that it is about.
"""

import contextlib
import json
import math
from typing import Any

from container_stack import exceptions
from container_stack.storlets import objects

#: Version of the form of what is written here. One that is newer is not read.
SCHEMA = 1
#: Bytes that a document may have.
LIMIT = 8 * 1024**2


class Corrupt(exceptions.ContainerStackError):
    """A stored document isn't what was once stored there, or is of a later release."""


class Document:
    """What is read from a document; every question raises :class:`Corrupt` if it isn't so.

    :param where: its container and name, for errors.
    """

    def __init__(self, content: Any, where: str) -> None:
        self._where = where
        if not isinstance(content, dict):
            raise self.corrupt("is no JSON object")
        self._content = content

    @classmethod
    def read(cls, data: bytes, kind: str, where: str) -> "Document":
        """Return what a document of that kind says."""
        try:
            read = cls(json.loads(data), where)
        except (ValueError, RecursionError) as exc:
            raise Corrupt(f"{where} is no JSON: look what happened to it.") from exc
        schema = read.integer("schema")
        if schema > SCHEMA:
            raise Corrupt(f"{where} was written by a later release (form {schema}); use that.")
        if schema < 1 or read.text("kind") != kind:
            raise read.corrupt(f"is no {kind}")
        return read

    def corrupt(self, why: str) -> Corrupt:
        """Return the error that says what is wrong."""
        return Corrupt(f"{self._where} {why}: it was damaged, or is none of ours.")

    def text(self, key: str) -> str:
        """Return a string."""
        value = self._content.get(key)
        if not isinstance(value, str):
            raise self.corrupt(f"has no text {key!r}")
        return value

    def image_id(self, key: str) -> str:
        """Return a digest."""
        value = self.text(key)
        if not _is_digest(value):
            raise self.corrupt(f"has no digest {key!r}")
        return value

    def integer(self, key: str) -> int:
        """Return a number that is no less than zero."""
        value = self._content.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.corrupt(f"has no number {key!r}")
        return value

    def seconds(self, key: str) -> float:
        """Return a time."""
        value = self._content.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                if math.isfinite(value):
                    return float(value)
        raise self.corrupt(f"has no time {key!r}")

    def flag(self, key: str) -> bool:
        """Return a truth value."""
        value = self._content.get(key)
        if not isinstance(value, bool):
            raise self.corrupt(f"has no {key!r} that is true or false")
        return value

    def has(self, key: str) -> bool:
        """Return whether there is something but null."""
        return self._content.get(key) is not None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._content.get(key)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.corrupt(f"has no list of texts {key!r}")
        return tuple(value)

    def images(self, key: str) -> dict[str, str | None]:
        """Return digests, or None, by name."""
        value = self._content.get(key)
        if not isinstance(value, dict):
            raise self.corrupt(f"has no names {key!r}")
        if not all(each is None or _is_digest(each) for each in value.values()):
            raise self.corrupt(f"has something else than digests in {key!r}")
        return dict(value)

    def part(self, key: str) -> "Document":
        """Return the document in it."""
        return Document(self._content.get(key), f"{key} of {self._where}")

    def parts(self, key: str) -> "list[Document]":
        """Return the documents in a list in it."""
        value = self._content.get(key)
        if not isinstance(value, list):
            raise self.corrupt(f"has no list {key!r}")
        return [Document(each, f"{key} of {self._where}") for each in value]

    def raw(self) -> dict[str, Any]:
        """Return all of it, unchecked."""
        return self._content


def fetch(store: objects.ObjectStore, container: str, name: str, kind: str) -> Document | None:
    """Return the document that an object holds, or None if there is no such object.

    :raises Corrupt: it holds something else.
    """
    data = bytearray()
    try:
        for piece in store.read(container, name):
            data += piece
            if len(data) > LIMIT:
                raise Corrupt(f"{container}/{name} is too large to be ours.")
    except exceptions.NotFound:
        return None
    return Document.read(bytes(data), kind, f"{container}/{name}")


def encode(kind: str, content: dict[str, Any]) -> bytes:
    """Return a document."""
    return json.dumps({"schema": SCHEMA, "kind": kind, **content}, sort_keys=True).encode()


def _is_digest(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    algorithm, _, digits = value.partition(":")
    return algorithm == "sha256" and len(digits) == 64 and set(digits) <= set("0123456789abcdef")
