# SPDX-License-Identifier: Apache-2.0
"""What ``docker volume create -o`` may say, and what it means for a volume."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.volumes import model

_SIZE = re.compile(r"([0-9]{1,19})([kmgt]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_WHOLE = re.compile(r"[0-9]{1,10}")


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for of a new volume.

    :param spec: fields of :class:`model.Spec`; those that nobody named are missing.
    :param source: name or id of the volume or snapshot whose content it begins with, or "".
    :param labels: None if nobody named any.
    """

    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""
    labels: Mapping[str, str] | None = None

    def new(self, parent: model.Volume | None) -> model.Spec:
        """Return the specification of a new volume; a clone is as large as its parent."""
        inherited = {}
        if parent is not None:
            kept = ("size", "filesystem", "block_size", "ha_level", "cos")
            inherited = {name: getattr(parent.spec, name) for name in kept}
        return model.check_spec(model.Spec(**{**inherited, **self.spec}))

    def is_met_by(self, volume: model.Volume, parent: model.Volume | None) -> bool:
        """Tell whether a volume that exists is what was asked for, as far as anything was."""
        return (
            dataclasses.replace(volume.spec, **self.spec) == volume.spec
            and (parent is None or volume.source.parent == parent.id)
            and (self.labels is None or dict(self.labels) == dict(volume.labels))
        )


def parse(options: object) -> Wish:
    """Return what the options ask for; they come as Docker has them, None or texts by name.

    :raises InvalidRequest: an unknown option, naming the nearest known; or no value for it.
    """
    if options is None:
        return Wish()
    if not isinstance(options, Mapping):
        raise exceptions.InvalidRequest("Opts is an object of texts.")
    spec: dict[str, Any] = {}
    for name, text in options.items():
        if not isinstance(text, str):
            raise exceptions.InvalidRequest(f"The value of option {_shown(name)} is no text.")
        if name in _SPEC:
            field, read = _SPEC[name]
            value = read(name, text)
            if spec.setdefault(field, value) != value:
                raise exceptions.InvalidRequest(f"Two options say different things: {_also(name)}.")
        elif name not in _OTHERS:
            raise exceptions.InvalidRequest(_unknown(name))
    labels = _labels(options["labels"]) if "labels" in options else None
    return Wish(spec, options.get("from", ""), labels)


def _size(name: str, text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise exceptions.InvalidRequest(
            f"{_shown(text)} can't be a {name}: give bytes, or a number with k, M, G or T behind."
        )
    return int(match[1]) * _UNITS[match[2].lower()]


def _whole(name: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise exceptions.InvalidRequest(f"{_shown(text)} can't be a {name}: give a whole number.")
    return int(text)


def _text(_name: str, text: str) -> str:
    return text


def _labels(text: str) -> Mapping[str, str]:
    labels = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise exceptions.InvalidRequest(f"{_shown(pair)} is no label: give key=value,...")
        labels[key] = value
    return model.check_labels(labels)


#: By option: the field of a specification, and who reads it.
_SPEC: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "block_size": ("block_size", _size),
    "cos": ("cos", _whole),
    "format": ("filesystem", _text),
    "fs": ("filesystem", _text),
    "ha_level": ("ha_level", _whole),
    "size": ("size", _size),
    "snapshot_interval": ("snapshot_interval", _whole),
    "snapshot_keep": ("snapshot_keep", _whole),
}
_OTHERS = ("from", "labels")
#: All that may be said.
NAMES = tuple(sorted((*_SPEC, *_OTHERS)))


def _also(name: str) -> str:
    return " and ".join(each for each in _SPEC if _SPEC[each][0] == _SPEC[name][0])


def _unknown(name: object) -> str:
    near = difflib.get_close_matches(str(name)[:80].lower(), NAMES, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}."
    return f"There is no option {_shown(name)}; {meant}"


def _shown(text: object) -> str:
    return repr(str(text)[:80])
