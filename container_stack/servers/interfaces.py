# SPDX-License-Identifier: Apache-2.0
"""The network interfaces of servers: Neutron's ports in the containers' network namespaces.

An interface's outer end is called as Neutron's agents expect, ``tap`` and the first eleven letters
of the port's id. What is plugged is kept in a record for each server, so that it can be unplugged
by the server's id alone and is called the same after every start.
"""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import bridges, locks, plug, port_filters, records
from container_stack.rootwrap import commands, executor
from container_stack.servers import model

LOG = logging.getLogger(__name__)

_LINKS = "/sys/class/net"
_NETWORK_BRIDGE = re.compile("brq[0-9a-f]{8}-[0-9a-f]{2}")
_METRIC = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A port of a server, and its interface's name in the container."""

    port: model.Port
    interface: str


class Interfaces:
    """Plugs servers' ports in and out; safe under threads and processes.

    :param object_locks: shared by all processes of this owner.
    :param directory: for the records, made when first needed.
    :param owner: whose servers; others on this host may have their ports meanwhile.
    :param bridge_taps: put ports that are bound as ``TAP`` on a Linux bridge of their network;
        without, they are left to an agent that routes, such as Calico's.
    :param filter_taps: keep those ports from speaking for others, unless their mechanism does.
    :param admit_taps: let them through Docker's firewall.
    """

    def __init__(
        self,
        executor: executor.Executor,
        object_locks: locks.ObjectLocks,
        *,
        directory: str,
        owner: str = "",
        bridge_taps: bool = True,
        filter_taps: bool = True,
        admit_taps: bool = False,
    ) -> None:
        self._executor = executor
        self._locks = object_locks
        self._plugs = plug.Plugs(executor, owner)
        self._bridges = bridges.Bridges(executor, object_locks)
        self._hybrids = bridges.Hybrids(executor, self._bridges)
        # What a loss of power takes from it went with the links that it speaks of.
        self._records = records.Records(directory, durable=False)
        self._filters = port_filters.PortFilters(executor, object_locks)
        self._bridge_taps = bridge_taps
        self._filter_taps = bridge_taps and filter_taps
        self._admit_taps = bridge_taps and admit_taps

    def start(self) -> None:
        """Prepare the host; idempotent. An engine that starts anew may need it anew."""
        if self._admit_taps:
            port_filters.admit_bridges(self._executor)

    def plug(self, server_id: str, sandbox: str, ports: Sequence[model.Port]) -> None:
        """Give a running server these interfaces, or none of those that it hasn't got yet.

        Idempotent. A new port gets the first free name of ``eth0``, ``eth1``…; one that was
        plugged before keeps its own. Ports that aren't bound are passed over.

        :param sandbox: the path of the container's network namespace, from the engine.
        :raises InvalidRequest: a port is unusable, or the server doesn't run.
        :raises NotFound: there is no such bridge.
        :raises CommandFailed: a step failed.
        """
        wanted = [port for port in ports if port.binding is not model.Binding.UNBOUND]
        for port in wanted:
            _check(server_id, port)
        with self._locks.hold(f"interfaces-{server_id}"), contextlib.ExitStack() as undo:
            known = self._read(server_id)
            kept = {**known, **_named(known, wanted)}
            if kept != known:
                undo.callback(self._write, server_id, known)
                self._write(server_id, kept)
            for port in wanted:
                if port.id in known and _place(known[port.id].port) != _place(port):
                    self._unplug(known[port.id].port)
                if self._plug(server_id, sandbox, kept[port.id]):
                    undo.callback(self._unplug, port)
            undo.pop_all()

    def unplug(self, server_id: str, ports: Sequence[model.Port]) -> None:
        """Take these interfaces from a server, whether or not it runs; idempotent.

        :raises CommandFailed: a step failed; repeat it.
        """
        with self._locks.hold(f"interfaces-{server_id}"):
            known = self._read(server_id)
            for port in ports:
                found = known.get(port.id)
                self._unplug(found.port if found else port)
                if found:
                    del known[port.id]
                    self._write(server_id, known)

    def unplug_all(self, server_id: str) -> None:
        """Take all interfaces from a server, whether or not it runs; idempotent."""
        self.unplug(server_id, self.ports(server_id))

    def is_others(self, port: model.Port) -> bool:
        """Tell whether another owner's server on this host has a port, as after an evacuation."""
        return port.binding is not model.Binding.UNBOUND and self._plugs.is_others(_device(port))

    def plugged(self, server_id: str) -> Mapping[str, str]:
        """Return the names in the container of a server's interfaces, by the ids of their ports.

        They are those that it has when it runs.
        """
        return {each.port.id: each.interface for each in self._read(server_id).values()}

    def ports(self, server_id: str) -> Sequence[model.Port]:
        """Return the ports that a server has when it runs."""
        return [each.port for each in self._read(server_id).values()]

    def recover(self, server_ids: Collection[str]) -> Sequence[str]:
        """Unplug what servers have left that are none of these, and return their ids."""
        for name in self._records.strays():
            self._records.remove(name)
        gone = [name for name in self._records.names() if name not in server_ids]
        for server_id in gone:
            self.unplug_all(server_id)
        return gone

    def statistics(self, server_id: str, ports: Sequence[model.Port]) -> Sequence[model.Interface]:
        """Return the counters of those interfaces that are plugged, in the order of the ports."""
        found = []
        for port in ports:
            with contextlib.suppress(FileNotFoundError):
                found.append(_counters(port.mac, f"{_LINKS}/{_device(port)}"))
        return found

    def _plug(self, server_id: str, sandbox: str, kept: Kept) -> bool:
        port = kept.port
        with contextlib.ExitStack() as undo:
            undo.callback(self._unplug, port)
            if self._is_filtered(port):
                self._filters.confine(_device(port), port.mac, port.addresses)
            switched = port.binding in (model.Binding.OVS, model.Binding.OVS_HYBRID)
            checksums = switched and bridges.is_in_user_space(self._executor, port.bridge)
            with self._bridge(server_id, port) as bridge:
                one = _as_plug(server_id, kept, bridge, checksums)
                made = self._plugs.plug(one, sandbox, joining=self._joining(port, bridge))
            undo.pop_all()
        return made

    def _is_filtered(self, port: model.Port) -> bool:
        return self._filter_taps and port.binding is model.Binding.TAP and not port.filtered

    @contextlib.contextmanager
    def _bridge(self, server_id: str, port: model.Port) -> Iterator[str]:
        """Lend the bridge that a port's outer end is to be on; "" is none."""
        if port.binding is not model.Binding.OVS_HYBRID:
            yield self._bridge_name(port)
            return
        values = (port.id, server_id, port.mac, port.mtu or 1500, port.bridge)
        with self._hybrids.using(*values) as bridge:
            yield bridge

    def _joining(
        self, port: model.Port, bridge: str
    ) -> contextlib.AbstractContextManager[None] | None:
        """Return what keeps a bridge of a network for as long as a port joins it."""
        return self._bridges.using(bridge) if _is_made(port, bridge) else None

    def _bridge_name(self, port: model.Port) -> str:
        if port.binding is model.Binding.TAP:
            return bridges.of_network(port.network) if self._bridge_taps else ""
        return "" if port.binding is model.Binding.NOOP else port.bridge

    def _unplug(self, port: model.Port) -> None:
        if port.binding is model.Binding.UNBOUND or self.is_others(port):
            return
        ovs = port.binding is model.Binding.OVS and bridges.exists(port.bridge)
        self._plugs.unplug(port.id, ovs=ovs, device=_device(port))
        if self._is_filtered(port):
            self._filters.remove(_device(port))
        if port.binding is model.Binding.OVS_HYBRID:
            self._hybrids.remove(port.id, port.bridge)
        elif port.binding is model.Binding.TAP:
            self._bridges.leave(bridges.of_network(port.network))

    def _read(self, server_id: str) -> dict[str, Kept]:
        try:
            record = self._records.read(server_id) or {}
        except exceptions.InvalidRequest as exc:
            LOG.warning("Begin anew: %(why)s", {"why": exc})
            record = {}
        kept = [_kept(each) for each in record.get("interfaces", [])]
        return {each.port.id: each for each in kept}

    def _write(self, server_id: str, kept: Mapping[str, Kept]) -> None:
        if kept:
            interfaces = [dataclasses.asdict(each) for each in kept.values()]
            self._records.write(server_id, {"interfaces": interfaces})
        else:
            self._records.remove(server_id)


def _named(known: Mapping[str, Kept], ports: Sequence[model.Port]) -> dict[str, Kept]:
    taken = {each.interface for each in known.values()}
    free = (name for number in range(100) if (name := f"eth{number}") not in taken)
    named = {}
    for port in ports:
        try:
            interface = known[port.id].interface if port.id in known else next(free)
        except StopIteration as exc:
            raise exceptions.InvalidRequest("A server can have 100 interfaces, no more.") from exc
        named[port.id] = Kept(port, interface)
    return named


def _place(port: model.Port) -> tuple[str, ...]:
    """Return what decides how a port is unplugged."""
    return (port.binding, port.bridge, port.network, _device(port))


def _check(server_id: str, port: model.Port) -> None:
    """Refuse a port that can't be, before anything is done.

    :raises InvalidRequest: it is one.
    """
    _as_plug(server_id, Kept(port, "eth0"), port.bridge, False)
    shapes = {"id": port.id, "tap": _device(port), "mac": port.mac.lower()}
    for kind, value in shapes.items():
        if not re.fullmatch(commands.KINDS[kind], value):
            raise exceptions.InvalidRequest(f"Port {port.id!r}: {value!r} can't be its {kind}.")


def _device(port: model.Port) -> str:
    return port.device or f"tap{port.id[:11]}"


def _is_made(port: model.Port, bridge: str) -> bool:
    """Return whether a missing bridge is for us to make: Neutron's agent waits for its own."""
    if port.binding is model.Binding.TAP:
        return bool(bridge)
    return port.binding is model.Binding.BRIDGE and bool(_NETWORK_BRIDGE.fullmatch(bridge))


def _as_plug(server_id: str, kept: Kept, bridge: str, checksums: bool) -> plug.Plug:
    port = kept.port
    return plug.Plug(
        id=port.id,
        bridge=bridge,
        mac=port.mac,
        addresses=port.addresses,
        gateways=port.gateways,
        mtu=port.mtu or 1500,
        interface=kept.interface,
        ovs=port.binding is model.Binding.OVS,
        device=_device(port),
        routes=tuple((route.destination, route.gateway) for route in port.routes),
        metric=_METRIC + int(kept.interface.removeprefix("eth")),
        silent=port.binding is model.Binding.NOOP,
        checksums=checksums,
        server=server_id,
    )


def _kept(record: Mapping[str, Any]) -> Kept:
    values = dict(record["port"])
    for name in ("addresses", "gateways", "dns"):
        values[name] = tuple(values[name])
    values["routes"] = tuple(model.Route(**each) for each in values["routes"])
    values["binding"] = model.Binding(values["binding"])
    return Kept(model.Port(**values), record["interface"])


def _counters(mac: str, link: str) -> model.Interface:
    # What the outer end sends is what the container receives.
    kinds = {"bytes": "bytes", "packets": "packets", "errors": "errors", "drops": "dropped"}
    counted = {}
    for inner, outer in (("rx", "tx"), ("tx", "rx")):
        for kind, file_kind in kinds.items():
            with open(f"{link}/statistics/{outer}_{file_kind}", encoding="ascii") as file:
                counted[f"{inner}_{kind}"] = int(file.read())
    return model.Interface(mac=mac, **counted)
