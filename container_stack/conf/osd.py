# SPDX-License-Identifier: Apache-2.0
"""The configuration file of the Open Storage daemon, as YAML::

    osd:
      drivers:
        nfs:
          server: "192.0.2.20"
          path: "/nfs"
        btrfs:

Everything but ``drivers`` has a default; :mod:`container_stack.conf.osd_options` has all that may
be said. All scalars are texts until an option makes something else of them, so that a key of digits
stays what it is.
"""

import dataclasses
import difflib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from container_stack import exceptions
from container_stack.conf import osd_options as options
from container_stack.host import containers
from container_stack.rootwrap import executor

#: Bytes that the file may have.
MOST_BYTES = 1024**2
#: How YAML may say that there is nothing.
_NOTHING = (None, "", "~", "null")


@dataclasses.dataclass(frozen=True, slots=True)
class Driver:
    """A driver.

    :param name: what Docker and the command line call it.
    :param backend: entry point of what keeps its volumes.
    """

    name: str
    backend: str
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """What makes this host one of many.

    :param coordination: URL of tooz; "" means that there are no other nodes.
    :param lease: seconds.
    """

    clusterid: str
    nodeid: str
    management_ip: str = ""
    data_ip: str = ""
    coordination: str = dataclasses.field(default="", repr=False)
    lease: float = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Listen:
    """Where the REST API is served to other hosts, always over TLS.

    :param token_file: file whose first line a client must know.
    :param readable: what the web page shows is for everybody.
    """

    address: str
    port: int
    cert: str
    key: str
    token_file: str
    readable: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All that the daemon is told; the fields are those options, by their names.

    :param cluster: None where no cluster is configured.
    :param listen: None where no other host is served.
    """

    drivers: tuple[Driver, ...]
    state_dir: str
    plugin_dir: str
    group: str
    plugins: bool
    docker_url: str
    root_helper: tuple[str, ...]
    registry: str = dataclasses.field(repr=False)
    interval: float
    history_days: int
    threads: int
    log_level: str
    cluster: Cluster | None = None
    listen: Listen | None = None

    @property
    def node_id(self) -> str:
        """This node's id."""
        return self.cluster.nodeid if self.cluster else socket.gethostname()

    def plugin_socket(self, name: str) -> str:
        """Return the path of a driver's socket for Docker."""
        return os.path.join(self.plugin_dir, f"{name}.sock")


def read(path: str, extra: Iterable[Driver] = ()) -> Settings:
    """Return what a file says.

    :param extra: drivers beside those of the file.
    :raises InvalidRequest: it can't be read or isn't understood; the text says where, and shows
        no value of a driver's.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise exceptions.InvalidRequest(f"There is no configuration: {exc}") from exc
    try:
        if len(text) > MOST_BYTES:
            raise exceptions.InvalidRequest(f"it has more than {MOST_BYTES} bytes.")
        return parse(text, extra)
    except exceptions.InvalidRequest as exc:
        raise exceptions.InvalidRequest(f"{path}: {exc}") from exc


def parse(text: str | bytes, extra: Iterable[Driver] = ()) -> Settings:
    """Return what a text says.

    :param extra: drivers beside those of the text.
    """
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - makes texts, lists and mappings only
    except yaml.YAMLError as exc:
        raise exceptions.InvalidRequest(f"it is no YAML: {_where(exc)}") from exc
    except (ValueError, RecursionError) as exc:
        raise exceptions.InvalidRequest("it is no YAML.") from exc
    _known("The file", data, ("osd",))
    top = data.get("osd")
    _known("osd", top, ("drivers", "cluster", "listen", *(each.name for each in options.OPTIONS)))
    return settings(top, extra)


def settings(top: Mapping[str, Any], extra: Iterable[Driver] = ()) -> Settings:
    """Return what the part ``osd`` says."""
    found = drivers({} if top.get("drivers") in _NOTHING else top["drivers"])
    found.update({each.name: each for each in extra})
    values = _values("osd", top, options.OPTIONS)
    state_dir = values["state_dir"]
    values["registry"] = values["registry"] or f"sqlite:///{state_dir}/osd.sqlite"
    values["docker_url"] = values["docker_url"] or containers.DEFAULT_URL
    values["root_helper"] = values["root_helper"] or executor.default_helper()
    result = Settings(
        drivers=tuple(found.values()),
        cluster=_part("cluster", top, options.CLUSTER, Cluster),
        listen=_part("listen", top, options.LISTEN, Listen),
        **values,
    )
    if result.cluster and result.cluster.coordination and "registry" not in top:
        raise exceptions.InvalidRequest(
            "cluster has a coordination, and registry is unset; all nodes need one database."
        )
    return result


def drivers(data: object) -> dict[str, Driver]:
    """Return drivers by name, from what ``drivers`` says."""
    if not isinstance(data, Mapping):
        raise exceptions.InvalidRequest("drivers is a mapping of names, each with its settings.")
    return {name: driver(name, values) for name, values in data.items()}


def driver(name: str, data: object) -> Driver:
    """Return one driver.

    Settings may be spelled like variables of the environment: ``AWS_ACCESS_KEY_ID``.
    """
    options.check_driver(name)
    if data in _NOTHING:
        data = {}
    if not isinstance(data, Mapping):
        raise exceptions.InvalidRequest(f"drivers: {name} is a mapping of its settings.")
    values: dict[str, str] = {}
    for key, value in data.items():
        plain = key.lower() if key.isupper() else key
        if not isinstance(value, str):
            raise exceptions.InvalidRequest(f"drivers: {name}: {key[:40]} must be a text.")
        if plain in values:
            raise exceptions.InvalidRequest(f"drivers: {name} has {plain[:40]} twice.")
        values[plain] = value
    return Driver(name, values.pop("backend", name), values)


def check_known(where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    """See that all keys are known.

    :raises InvalidRequest: one isn't; the nearest that is known is named.
    """
    names = sorted(known)
    for key in keys:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.5)
            there = f"there are {', '.join(names)}" if names else "there are none"
            hint = f"did you mean {near[0]}?" if near else f"{there}."
            raise exceptions.InvalidRequest(f"{where} has an unknown key {key[:50]!r}; {hint}")


class _Loader(yaml.BaseLoader):
    """YAML in which scalars are texts and nothing is said twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        for number, key in enumerate(keys):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a text", node.start_mark
                )
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key[:50]!r} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _where(exc: yaml.YAMLError) -> str:
    """Return what is wrong and where, without quoting the file: it may hold secrets."""
    problem = getattr(exc, "problem", None) or "it can't be read"
    mark = getattr(exc, "problem_mark", None)
    return f"{problem}, line {mark.line + 1}." if mark else f"{problem}."


def _known(where: str, data: object, known: Iterable[str]) -> None:
    if not isinstance(data, Mapping):
        raise exceptions.InvalidRequest(f"{where} must be a mapping.")
    check_known(where, data, known)


def _values(where: str, data: Mapping[str, Any], known: Iterable[options.Option]) -> dict[str, Any]:
    values = {}
    for option in known:
        text = data.get(option.name, option.default)
        if not isinstance(text, str):
            raise exceptions.InvalidRequest(f"{where}: {option.name} must be a single value.")
        try:
            values[option.name] = option.read(text)
        except ValueError as exc:
            raise exceptions.InvalidRequest(f"{where}: {option.name}: {exc}.") from exc
    return values


def _part(
    name: str, top: Mapping[str, Any], known: Iterable[options.Option], kind: Callable[..., Any]
) -> Any:
    if name not in top:
        return None
    data = {} if top[name] in _NOTHING else top[name]
    _known(name, data, [each.name for each in known])
    return kind(**_values(name, data, known))
