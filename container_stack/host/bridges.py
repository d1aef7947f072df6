# SPDX-License-Identifier: Apache-2.0
"""Linux bridges that ports need and nobody else makes: of a network, and of one port.

The host is no neighbour on such a bridge: it has no address there, answers nobody, and takes no
routes that somebody advertises.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import locks
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)

_LINKS = "/sys/class/net"


def of_network(network_id: str) -> str:
    """Return the name of a network's bridge: always the same, 15 characters."""
    return "csb" + hashlib.sha256(network_id.encode()).hexdigest()[:12]


class Bridges:
    """Makes bridges when they are needed, and removes those that nobody is on any more.

    :param object_locks: shared by all processes that use the same bridges.
    """

    def __init__(self, executor: executor.Executor, object_locks: locks.ObjectLocks) -> None:
        self._executor = executor
        self._locks = object_locks

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Keep a bridge, made if it is missing, at least until the body ends.

        :raises CommandFailed: it can't be made.
        """
        with self._locks.hold(f"bridge-{name}"):
            if not _is_whole(name):
                self._make(name)
            yield

    def leave(self, name: str) -> None:
        """Remove a bridge that nothing is on; idempotent."""
        with self._locks.hold(f"bridge-{name}"):
            if exists(name) and not os.listdir(f"{_LINKS}/{name}/brif"):
                self._remove(name)

    def _make(self, name: str) -> None:
        run = self._executor.run
        with contextlib.ExitStack() as undo:
            if not exists(name):
                undo.callback(self._remove, name)
                kind = commands.ports.BRIDGE_ADD
                if name.startswith("qbr"):
                    kind = commands.ports.BRIDGE_ADD_PORT
                run(kind, bridge=name)
            run(commands.ports.SILENCE, link=name)
            run(commands.ports.BRIDGE_UP, bridge=name)
            undo.pop_all()
        LOG.info("Made bridge %(bridge)s", {"bridge": name})

    def _remove(self, name: str) -> None:
        if exists(name):
            self._executor.run(commands.ports.BRIDGE_DELETE, bridge=name)
            LOG.info("Removed bridge %(bridge)s", {"bridge": name})


class Hybrids:
    """Bridges of one port each, on which an agent filters, with their pairs to Open vSwitch.

    The names are those that Neutron's agent looks for: ``qbr`` is the bridge, ``qvb`` and ``qvo``
    are the ends of the pair, each with the first eleven letters of the port's id.
    """

    def __init__(self, executor: executor.Executor, bridges: Bridges) -> None:
        self._executor = executor
        self._bridges = bridges

    @contextlib.contextmanager
    def using(self, port_id: str, server_id: str, mac: str, mtu: int, switch: str) -> Iterator[str]:
        """Lend the port's bridge, which leads to the switch; idempotent.

        :param switch: a bridge of Open vSwitch.
        :raises NotFound: there is no such switch.
        :raises CommandFailed: a step failed; nothing is left.
        """
        _check_switch(switch)
        run, name = self._executor.run, _names(port_id)
        bridge, inner, outer = name["bridge"], name["inner"], name["outer"]
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove, port_id, switch)
            with self._bridges.using(bridge):
                if not exists(outer):
                    run(commands.ports.HYBRID_ADD, inner=inner, outer=outer, mtu=mtu)
                run(commands.ports.HYBRID_JOIN, inner=inner, bridge=bridge)
                place: dict[str, Any] = {
                    "bridge": switch,
                    "host": outer,
                    "port": port_id,
                    "server": server_id,
                }
                run(commands.ports.PORT_OVS, mac=mac.lower(), **place)
                run(commands.ports.HYBRID_UP, outer=outer)
                yield bridge
            undo.pop_all()

    def remove(self, port_id: str, switch: str) -> None:
        """Remove a port's bridge and pair; idempotent, also if the switch is gone."""
        name = _names(port_id)
        if exists(switch):
            self._executor.run(commands.ports.UNPLUG_PORT_OVS, host=name["outer"])
        if exists(name["inner"]):
            self._executor.run(commands.ports.HYBRID_DELETE, inner=name["inner"])
        self._bridges.leave(name["bridge"])


def is_in_user_space(executor: executor.Executor, switch: str) -> bool:
    """Return whether a bridge of Open vSwitch moves packets without the kernel's help.

    :raises NotFound: there is no such bridge.
    """
    _check_switch(switch)
    return "netdev" in executor.run(commands.ports.OVS_DATAPATH, bridge=switch)


def _check_switch(name: str) -> None:
    if not exists(name):
        raise exceptions.NotFound(f"There is no Open vSwitch bridge {name!r} on this host.")


def exists(name: str) -> bool:
    """Return whether this host has a link of the name."""
    return bool(name) and "/" not in name and os.path.isdir(f"{_LINKS}/{name}")


def _names(port_id: str) -> dict[str, str]:
    kinds = {"bridge": "qbr", "inner": "qvb", "outer": "qvo"}
    return {kind: prefix + port_id[:11] for kind, prefix in kinds.items()}


def _is_whole(name: str) -> bool:
    try:
        with open(f"{_LINKS}/{name}/flags", encoding="ascii") as file:
            return bool(int(file.read(), 16) & 1)  # IFF_UP, which comes last
    except OSError:
        return False
