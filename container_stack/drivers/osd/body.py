# SPDX-License-Identifier: Apache-2.0
"""What clients send, whichever release they were made for.

Go's decoder, which all of them were made for, doesn't look at the case of keys; between releases
``VolumeLabels`` became ``volume_labels``. So keys are compared without case and underlines, and one
reader serves all. Keys that nobody knows are left alone, as they always were.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.volumes import model

#: What "format", "attach" and "mount" of a change mean; 0 leaves things as they are.
OFF, ON = 1, 2
#: File systems by their numbers in later releases (api.proto, FSType); two had none of their own.
FILESYSTEMS = ("", "btrfs", "ext4", "fuse", "nfs", "vfs", "xfs", "zfs")


_ORDINARY = model.Spec()


class BadBody(exceptions.InvalidRequest):
    """What was sent can't be read as a request at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Create:
    """A volume that is asked for; ``spec`` is None where there was none."""

    name: str
    labels: Mapping[str, str]
    source: model.Source
    spec: model.Spec | None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a volume.

    :param labels: None as a value takes a label away.
    :param size: None leaves it; so do ``interval`` and ``keep``.
    """

    format: int
    attach: int
    mount: int
    mount_path: str
    device_path: str
    labels: Mapping[str, str | None]
    size: int | None
    interval: int | None
    keep: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Snap:
    """A snapshot that is asked for."""

    volume_id: str
    name: str
    labels: Mapping[str, str]
    read_only: bool


class Fields:
    """One JSON object, whose values are looked at before they are believed.

    :raises BadBody: by every method, when something is of another kind than it has to be.
    """

    def __init__(self, values: object, where: str = "The body") -> None:
        if not isinstance(values, dict):
            raise BadBody(f"{where} is no JSON object.")
        self.keys = tuple(values)
        self._values = {_plain(key): value for key, value in values.items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """Return a text; "" where there is none."""
        value = self._values.get(name, "")
        if not isinstance(value, str):
            raise BadBody(f"{name} is no text.")
        return _unicode(value, name)

    def whole(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadBody(f"{name} is no whole number.")
        return value

    def maybe(self, name: str) -> int | None:
        """Return a whole number, or None where there is none."""
        return self.whole(name) if name in self else None

    def flag(self, name: str) -> bool:
        """Return what is true or false; false where there is nothing."""
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise BadBody(f"{name} is neither true nor false.")
        return value

    def part(self, name: str) -> "Fields | None":
        """Return an object within."""
        return Fields(self._values[name], name) if name in self else None

    def labels(self, *names: str) -> Mapping[str, str]:
        """Return labels: the first of several names that is there."""
        return {key: value for key, value in self.wishes(*names).items() if value is not None}

    def wishes(self, *names: str) -> Mapping[str, str | None]:
        """Return labels, of which some may be None."""
        for name in names:
            if name in self:
                return as_labels(self._values[name], name)
        return {}

    def filesystem(self) -> str:
        """Return "format", a name or a number."""
        value = self._values.get("format", "")
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 <= value < len(FILESYSTEMS):
                raise BadBody(f"{value} is no file system's number.")
            return FILESYSTEMS[value]
        return self.text("format")


def load(raw: bytes) -> Fields:
    """Return the object that was sent.

    :raises BadBody: it is none.
    """
    if not raw.strip():
        raise BadBody("The body is empty; it has to be a JSON object.")
    return Fields(_json(raw, "The body"))


def labels(text: str) -> Mapping[str, str]:
    """Return labels that a query gives as JSON.

    :raises BadBody: they aren't.
    """
    found = as_labels(_json(text, "A label"), "A label")
    return {key: value for key, value in found.items() if value is not None}


def as_labels(value: object, name: str) -> Mapping[str, str | None]:
    """Return what are labels, by their kind; :mod:`model` checks their characters."""
    if not isinstance(value, dict):
        raise BadBody(f"{name} is no JSON object of texts.")
    for key, text in value.items():
        if text is not None and not isinstance(text, str):
            raise BadBody(f"{name} is no JSON object of texts.")
        _unicode(key + (text or ""), name)
    return value


def create(fields: Fields) -> Create:
    """Read what POST /v1/volumes gets."""
    locator = fields.part("locator") or Fields({})
    source = fields.part("source") or Fields({})
    wanted = fields.part("spec")
    return Create(
        name=locator.text("name"),
        labels=locator.labels("volumelabels"),
        source=model.Source(parent=source.text("parent"), seed=source.text("seed")),
        spec=None if wanted is None else spec(wanted),
    )


def spec(fields: Fields) -> model.Spec:
    """Read a specification, as far as its kinds go; the service checks what it says."""
    return model.Spec(
        size=fields.whole("size", _ORDINARY.size),
        filesystem=fields.filesystem(),
        ephemeral=fields.flag("ephemeral"),
        block_size=fields.whole("blocksize"),
        ha_level=fields.whole("halevel", _ORDINARY.ha_level),
        cos=fields.whole("cos"),
        dedupe=fields.flag("dedupe"),
        snapshot_interval=fields.whole("snapshotinterval"),
        snapshot_keep=fields.whole("snapshotkeep", _ORDINARY.snapshot_keep),
        labels=fields.labels("configlabels", "volumelabels"),
    )


def change(fields: Fields) -> Change:
    """Read what PUT /v1/volumes/{id} gets; later releases put the actions into one of their own."""
    action = fields.part("action") or fields
    locator = fields.part("locator") or Fields({})
    wanted = fields.part("spec") or Fields({})
    return Change(
        format=action.whole("format"),
        attach=action.whole("attach"),
        mount=action.whole("mount"),
        mount_path=action.text("mountpath"),
        device_path=action.text("devicepath"),
        labels=locator.wishes("volumelabels"),
        size=wanted.maybe("size"),
        interval=wanted.maybe("snapshotinterval"),
        keep=wanted.maybe("snapshotkeep"),
    )


def snap(fields: Fields) -> Snap:
    """Read what POST /v1/snapshot gets."""
    locator = fields.part("locator") or Fields({})
    return Snap(
        volume_id=fields.text("id"),
        name=locator.text("name"),
        labels=locator.labels("volumelabels"),
        read_only=fields.flag("readonly"),
    )


def speaks_later(fields: Fields) -> bool:
    """Tell whether who sent this speaks as later releases do: keys in lower case."""
    if "action" in fields:
        return True
    parts = (fields.part("locator"), fields.part("spec"))
    keys = [key for part in parts if part is not None for key in part.keys]
    return bool(keys) and all(key == key.lower() for key in keys)


def _json(text: bytes | str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError) as exc:
        why = exc.msg if isinstance(exc, json.JSONDecodeError) else "it can't be read"
        raise BadBody(f"{name} is no JSON: {why}.") from exc


def _constant(name: str) -> None:
    raise ValueError(name)


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


def _unicode(text: str, name: str) -> str:
    """Return a text that isn't half a character, which no file and no database takes."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise BadBody(f"{name} isn't valid Unicode.") from exc
    return text
