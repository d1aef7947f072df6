# SPDX-License-Identifier: Apache-2.0
"""The nodes that run storlets, as an operator lists them in a YAML file::

    defaults:
      user: 160
      tls: {ca: /etc/container-stack/ca.pem, cert: /etc/container-stack/manager.pem}
    nodes:
      - {name: proxy-1, url: "ssh://swift@192.0.2.1"}
      - {name: object-1, url: "tcp://192.0.2.11:2376", zone: r1z1}

What ``defaults`` say holds for each node that says nothing else.
"""

import dataclasses
import difflib
import ipaddress
import os
import re
import threading
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import yaml

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets import gateway
from container_stack.storlets.node import engine_node

#: Bytes that the file may have, and nodes that it may list.
MOST_BYTES, MOST_NODES = 16 * 1024**2, 20_000
#: Nodes to which connections are kept open while nothing is asked of them.
OPEN = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,252}")
_USER = re.compile(r"\d{1,10}(:\d{1,10})?")
_TLS = ("ca", "cert", "key")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A node of the inventory.

    :param url: of its engine: unix://, ssh:// or tcp://.
    :param zone: for people, and for the order in which nodes change.
    :param gateway: file on this host that says how the node's gateway is configured; None is
        what all nodes have.
    :param base: the operator's base image on the node; None is what all nodes have.
    :param user: UID[:GID] of Swift's servers there.
    :param timeout: seconds that its engine may keep silent.
    :param grace: seconds that a replaced sandbox may take to finish its requests.
    """

    name: str
    url: str
    zone: str = ""
    tls: containers.TLS | None = None
    gateway: str | None = None
    base: str | None = None
    user: str | None = None
    timeout: float | None = None
    grace: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise exceptions.InvalidRequest(f"{self.name!r} is no name for a node.")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise exceptions.InvalidRequest(
                f"User {self.user!r} of {self.name} is no UID[:GID]; names differ between nodes."
            )
        for what in (self.timeout, self.grace):
            if what is not None and not 0 < what < 1e6:
                raise exceptions.InvalidRequest(f"{self.name} is given {what:g} seconds.")
        containers.Engine(self.url, tls=self.tls)
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "tcp" and not self.tls and not _is_loopback(parts.hostname or ""):
            raise exceptions.InvalidRequest(
                f"{self.name} has its engine at {self.url} without TLS, and so gives root to "
                "everybody; give it tls, or use ssh://."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """Nodes, in the order of the file.

    :raises InvalidRequest: two of them are one, or there are none.
    """

    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.entries) <= MOST_NODES:
            raise exceptions.InvalidRequest(
                f"The inventory lists {len(self.entries)} nodes; it needs 1 to {MOST_NODES}."
            )
        for what in ("name", "url"):
            seen: set[str] = set()
            for each in self.entries:
                value = getattr(each, what)
                if value in seen:
                    raise exceptions.InvalidRequest(f"The inventory has the {what} {value} twice.")
                seen.add(value)

    @classmethod
    def read(cls, path: str) -> Self:
        """Return what a file lists.

        :raises InvalidRequest: it can't be read or isn't understood; the text says where.
        """
        try:
            with open(path, "rb") as file:
                text = file.read(MOST_BYTES + 1)
        except OSError as exc:
            raise exceptions.InvalidRequest(f"There is no inventory: {exc}") from exc
        try:
            if len(text) > MOST_BYTES:
                raise exceptions.InvalidRequest(f"it has more than {MOST_BYTES} bytes")
            return cls.parse(text)
        except exceptions.InvalidRequest as exc:
            raise exceptions.InvalidRequest(f"Inventory {path}: {exc}") from exc

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Return what a text lists."""
        try:
            data = yaml.load(text, _Loader)  # noqa: S506
        except (yaml.YAMLError, ValueError, RecursionError) as exc:
            raise exceptions.InvalidRequest(f"it is no YAML: {exc}") from exc
        _check(data, "The file", dict, ("defaults", "nodes"))
        defaults = data.get("defaults") or {}
        _check(defaults, "defaults", dict, _KEYS - {"name", "url"})
        nodes = data.get("nodes")
        _check(nodes, "nodes", list)
        return cls(
            tuple(_entry(defaults, each, f"nodes[{n}]") for n, each in enumerate(nodes or ()))
        )

    def to_nodes(
        self,
        gateway_: gateway.Gateway,
        *,
        base: str,
        user: str | None = None,
        timeout: float = 60.0,
        grace: float = engine_node.GRACE,
    ) -> Sequence[engine_node.EngineNode]:
        """Return the nodes themselves; nothing is contacted.

        The parameters hold for nodes of which the inventory says nothing.

        :raises InvalidRequest: a gateway's configuration file can't be used.
        """
        idle = Idle(OPEN)
        files: dict[str, gateway.Gateway] = {}
        nodes = []
        for each in self.entries:
            if each.gateway and each.gateway not in files:
                files[each.gateway] = gateway.Gateway.read(each.gateway)
            engine = containers.Engine(each.url, tls=each.tls, timeout=each.timeout or timeout)
            node = engine_node.EngineNode(
                each.name,
                engine,
                files[each.gateway] if each.gateway else gateway_,
                base=each.base or base,
                user=each.user or user,
                grace=each.grace or grace,
                used=idle.touch,
            )
            nodes.append(node)
        return nodes


class Idle:
    """Keeps no more than some engines connected that nobody uses: there may be thousands."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._engines: dict[containers.Engine, None] = {}

    def touch(self, engine: containers.Engine) -> None:
        """Note that an engine is used, and close what hasn't been for longest."""
        with self._lock:
            self._engines.pop(engine, None)
            self._engines[engine] = None
            oldest = next(iter(self._engines)) if len(self._engines) > self._most else None
            if oldest:
                del self._engines[oldest]
        if oldest:
            # Calls that are under way keep their connections.
            oldest.close()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as it is safe, in which nothing is said twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = [key for n, key in enumerate(keys) if key in keys[:n]]
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} has {twice[0]!r} twice")
        return super().construct_mapping(node, deep)


_KEYS = frozenset(field.name for field in dataclasses.fields(Entry))
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "url", "gateway", "base"), str),
    **dict.fromkeys(("zone", "user"), (str, int)),
    **dict.fromkeys(("timeout", "grace"), (int, float)),
}


def _entry(defaults: Mapping[str, Any], data: Any, where: str) -> Entry:
    _check(data, where, dict, _KEYS)
    values: dict[str, Any] = {**defaults, **data}
    for name in ("name", "url"):
        if name not in data:
            raise exceptions.InvalidRequest(f"{where} has no {name}")
    for name, kind in _KINDS.items():
        value = values.get(name, "" if name in ("name", "url") else None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise exceptions.InvalidRequest(
                f"{where}: {name} can't be of the kind {type(value).__name__}"
            )
    for name in ("zone", "user"):
        if values.get(name) is not None:
            values[name] = str(values[name])
    # Defaults for tcp:// must not make a socket unusable.
    wants_tls = "tls" in data or str(values["url"]).startswith("tcp:")
    tls = values.pop("tls", None)
    try:
        return Entry(**values, tls=_tls(tls, where) if tls and wants_tls else None)
    except exceptions.InvalidRequest as exc:
        raise exceptions.InvalidRequest(f"{where}: {exc}") from exc


def _tls(data: Any, where: str) -> containers.TLS:
    _check(data, f"{where}: tls", dict, _TLS)
    for name, path in data.items():
        if not isinstance(path, str) or not os.path.isfile(path):
            raise exceptions.InvalidRequest(f"tls: there is no file {path!r} for {name}")
    if data.get("key") and not data.get("cert"):
        raise exceptions.InvalidRequest("tls has a key without a cert")
    return containers.TLS(data.get("ca"), data.get("cert"), data.get("key"))


def _check(
    data: Any,
    where: str,
    kind: type[dict[Any, Any] | list[Any]],
    keys: Collection[str] | None = None,
) -> None:
    if not isinstance(data, kind):
        wanted = "a mapping" if kind is dict else "a list"
        raise exceptions.InvalidRequest(f"{where} must be {wanted}, not {type(data).__name__}")
    for key in list(data):
        if keys is not None and key not in keys:
            near = difflib.get_close_matches(str(key), keys, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(keys))}"
            raise exceptions.InvalidRequest(f"{where} has an unknown key {str(key)[:50]!r}; {hint}")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
