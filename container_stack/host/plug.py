# SPDX-License-Identifier: Apache-2.0
"""Container interfaces on bridges: a Linux bridge, or Open vSwitch.

A veth pair joins the two: its inner end is the container's interface, made in the container's
network namespace at once; its outer end joins the bridge as the LAST step, so nothing flows before
everything is set. That step also writes a mark to the link (its alias): a link without the right
mark is half-made, or belongs to the container's life before a restart, and is made again.

The namespace is named by the path that Docker gave it (``NetworkSettings.SandboxKey``), not by a
process id: root's filters can tell a container's namespace from the host's by the path alone.

A host where Docker filters bridged packets (``net.bridge.bridge-nf-call-iptables = 1``, and the
policy of FORWARD is DROP) drops what crosses a foreign bridge until its owner allows it, for
example by ``iptables -I DOCKER-USER -i BRIDGE -o BRIDGE -j ACCEPT``. That is the owner's to decide.
"""

import contextlib
import dataclasses
import hashlib
import ipaddress
import logging
import os
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)

_LINKS = "/sys/class/net"
#: Characters of a mark, and of those the first, by which its owner is known.
_MARK, _OWNER = 16, 4
#: RFC 791 and RFC 8200: what every link must carry.
_LEAST_MTU = {4: 68, 6: 1280}


@dataclasses.dataclass(frozen=True, slots=True)
class Plug:
    """One interface of a container.

    :param id: names it for ever; on Open vSwitch the controller's port id (``iface-id``).
    :param bridge: an existing bridge; "" leads nowhere.
    :param mac: of the inner end.
    :param addresses: with prefix, such as ``"10.0.0.5/24"`` and ``"fd00::5/64"``; a family of
        which it has none is off.
    :param gateways: of default routes, at most one a family; it need not lie in a subnet.
    :param mtu: bytes, of both ends.
    :param interface: the inner end's name, ``eth`` and a number below 100.
    :param ovs: the bridge is Open vSwitch's.
    :param device: the outer end's name, ``tap`` and the first eleven letters of the id; "" is one
        of ours. With it the rest has a meaning, too:
    :param routes: destinations and their gateways, where "0.0.0.0" and "::" are on the link.
    :param metric: of all its routes; of two interfaces the one with the lower is used.
    :param silent: the host is no neighbour on the outer end, if that is on no bridge.
    :param checksums: its packets' checksums are computed here: a switch in user space needs that.
    :param server: UUID of whom it serves, which Open vSwitch is told.
    """

    id: str
    bridge: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    mtu: int = 1500
    interface: str = "eth1"
    ovs: bool = False
    device: str = ""
    routes: tuple[tuple[str, str], ...] = ()
    metric: int = 1024
    silent: bool = False
    checksums: bool = False
    server: str = ""

    def __post_init__(self) -> None:
        try:
            families = {ipaddress.ip_interface(text).version for text in self.addresses}
            routed = [ipaddress.ip_address(text).version for text in self.gateways]
            ways = [(ipaddress.ip_network(to), ipaddress.ip_address(by)) for to, by in self.routes]
        except ValueError as exc:
            raise exceptions.InvalidRequest(f"Plug {self.id}: {exc}.") from exc
        if not families and not self.device:
            raise exceptions.InvalidRequest(f"Plug {self.id} needs an address.")
        if len(set(routed)) < len(routed) or not families.issuperset(routed):
            raise exceptions.InvalidRequest(
                f"Plug {self.id}: give one gateway for each family of its addresses, or none."
            )
        if any(to.version != by.version or to.version not in families for to, by in ways):
            raise exceptions.InvalidRequest(
                f"Plug {self.id}: a route and its gateway are of one family, of which it has an "
                "address."
            )
        least = max((_LEAST_MTU[family] for family in families), default=_LEAST_MTU[4])
        if not least <= self.mtu <= 65535:
            raise exceptions.InvalidRequest(
                f"Plug {self.id}: an MTU of {self.mtu} is not within {least} and 65535."
            )

    @property
    def link(self) -> str:
        """The name of its outer end."""
        return self.device or host_interface(self.id)


def host_interface(plug_id: str) -> str:
    """Return the name of an outer end of ours: always the same, 15 characters."""
    return "csp" + hashlib.sha256(plug_id.encode()).hexdigest()[:12]


class Plugs:
    """Plugs containers in and out. It keeps nothing: the kernel's links are the state.

    :param owner: tells its links by their marks from those of others who call theirs the same;
        "" is nobody in particular.
    """

    def __init__(self, executor: executor.Executor, owner: str = "") -> None:
        self._executor = executor
        self._owner = _digest(owner)[:_OWNER] if owner else ""

    def plug(
        self,
        plug: Plug,
        sandbox: str,
        *,
        joining: contextlib.AbstractContextManager[object] | None = None,
    ) -> bool:
        """Give the container its interface, and return whether it hadn't got it already.

        Call it again when the container has been started again: its old interface is gone.

        :param joining: entered around the last step; it makes the bridge if that is missing.
        :param sandbox: the path that the engine gives the running container's network namespace.
        :raises InvalidRequest: a value is unusable, or the container isn't running (no path).
        :raises NotFound: there is no such bridge.
        :raises CommandFailed: a step failed; nothing is left.
        """
        if joining is None:
            _check_bridge(plug)
        if not sandbox:
            raise exceptions.InvalidRequest(
                f"Plug {plug.id} needs a running container, which has a network namespace."
            )
        mark = (self._owner + _digest(f"{plug} {sandbox}"))[:_MARK]
        if _is_plugged(plug, mark):
            return False
        with contextlib.ExitStack() as undo:
            undo.callback(self.unplug, plug.id, ovs=plug.ovs, device=plug.device)
            self.unplug(plug.id, ovs=plug.ovs, device=plug.device)
            self._make(plug, sandbox)
            with joining or contextlib.nullcontext():
                self._connect(plug, mark)
            undo.pop_all()
        LOG.info("Plugged %(plug)s into %(bridge)s", {"plug": plug.id, "bridge": plug.bridge})
        return True

    def is_others(self, device: str) -> bool:
        """Tell whether an outer end is in use by another owner on this host."""
        mark = _mark(device)
        return bool(self._owner) and len(mark) == _MARK and not mark.startswith(self._owner)

    def unplug(self, plug_id: str, *, ovs: bool = False, device: str = "") -> None:
        """Remove the interface, whether or not the container lives; no error if it is gone.

        :param ovs: it is, or may be, on a bridge of Open vSwitch.
        :param device: its outer end's name, unless that is one of ours.
        """
        host = device or host_interface(plug_id)
        if ovs and device:
            self._executor.run(commands.ports.UNPLUG_PORT_OVS, host=host)
        elif ovs:
            self._executor.run(commands.networks.UNPLUG_OVS, host=host)
        if not os.path.exists(f"{_LINKS}/{host}"):
            return
        try:
            self._executor.run(commands.ports.outer(host, commands.networks.PLUG_DELETE), host=host)
        except exceptions.CommandFailed:
            # The kernel removes it with the container's namespace, perhaps just now.
            if os.path.exists(f"{_LINKS}/{host}"):
                raise
        LOG.info("Unplugged %(plug)s", {"plug": plug_id})

    def _make(self, plug: Plug, sandbox: str) -> None:
        run = self._executor.run
        place: dict[str, Any] = {"sandbox": sandbox, "inside": plug.interface}
        run(
            commands.ports.outer(plug.link, commands.networks.PLUG_ADD),
            host=plug.link,
            mtu=plug.mtu,
            mac=plug.mac.lower(),
            **place,
        )
        interfaces = [ipaddress.ip_interface(text) for text in plug.addresses]
        if any(each.version == 6 for each in interfaces):
            run(commands.networks.PLUG_ENABLE6, **place)
        elif plug.device:
            run(commands.ports.PLUG_DISABLE6, **place)
        if plug.checksums:
            run(commands.ports.PLUG_CHECKSUM, **place)
        run(commands.networks.PLUG_UP, **place)
        for each in interfaces:
            kind = (
                commands.networks.PLUG_ADDRESS4
                if each.version == 4
                else commands.networks.PLUG_ADDRESS6
            )
            run(kind, address=each.with_prefixlen, **place)
        if plug.device:
            self._lead(plug, place)
            return
        for text in plug.gateways:
            run(commands.networks.PLUG_ROUTE, gateway=str(ipaddress.ip_address(text)), **place)

    def _lead(self, plug: Plug, place: Mapping[str, Any]) -> None:
        """Set the ways that lead to other networks, each with the interface's metric."""
        gateways = [ipaddress.ip_address(text) for text in plug.gateways]
        default = {4: "0.0.0.0/0", 6: "::/0"}
        ways = [(default[gateway.version], gateway) for gateway in gateways]
        ways += [
            (str(ipaddress.ip_network(to)), ipaddress.ip_address(by)) for to, by in plug.routes
        ]
        for destination, gateway in ways:
            values: dict[str, Any] = {"destination": destination, "metric": plug.metric, **place}
            if gateway.is_unspecified:
                self._executor.run(commands.ports.PLUG_LINK_WAY, **values)
            else:
                self._executor.run(commands.ports.PLUG_WAY, gateway=str(gateway), **values)

    def _connect(self, plug: Plug, mark: str) -> None:
        run, host = self._executor.run, plug.link
        if plug.ovs:
            place: dict[str, Any] = {"bridge": plug.bridge, "host": host}
            place |= {"port": plug.id, "mac": plug.mac.lower()}
            if plug.device:
                run(commands.ports.PORT_OVS, server=plug.server, **place)
            else:
                run(commands.networks.PLUG_OVS, **place)
        elif plug.bridge:
            join = commands.ports.outer(host, commands.networks.PLUG_BRIDGE)
            run(join, host=host, bridge=plug.bridge, mark=mark)
            return
        elif plug.silent:
            run(commands.ports.SILENCE, link=host)
        run(commands.ports.outer(host, commands.networks.PLUG_READY), host=host, mark=mark)


def _check_bridge(plug: Plug) -> None:
    if not plug.bridge and plug.device:
        return
    path = f"{_LINKS}/{plug.bridge}" + ("" if plug.ovs else "/bridge")
    if "/" in plug.bridge or not os.path.isdir(path):
        kind = "Open vSwitch" if plug.ovs else "Linux"
        raise exceptions.NotFound(f"There is no {kind} bridge {plug.bridge!r} on this host.")


def _is_plugged(plug: Plug, mark: str) -> bool:
    if _mark(plug.link) != mark:
        return False
    if plug.ovs or not plug.bridge:
        return True
    try:
        return os.path.basename(os.readlink(f"{_LINKS}/{plug.link}/master")) == plug.bridge
    except OSError:
        return False


def _mark(link: str) -> str:
    """Return a link's mark; "" if it has none, or isn't there."""
    try:
        with open(f"{_LINKS}/{link}/ifalias", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
