# SPDX-License-Identifier: Apache-2.0
"""What a server takes, in Nova's words, of which there are two kinds."""

from typing import Any

from nova import objects
from nova.objects import fields

from container_stack.drivers.nova import parts
from container_stack.servers import diagnostics, model

#: Nova's list of drivers is closed, and its API needs one of them; the hypervisor is the truth.
DRIVER = fields.HypervisorDriver.LIBVIRT
_STATES = {
    model.State.RUNNING: "running",
    model.State.PAUSED: "paused",
    model.State.STOPPED: "shutdown",
}


def measure(working: parts.Parts, instance: Any) -> diagnostics.Diagnostics:
    """Return what a server takes.

    :raises ServerNotFound: there is none.
    """
    server = working.servers.get(instance.uuid)
    interfaces = working.docker.interfaces
    counted = interfaces.statistics(server.id, interfaces.ports(server.id))
    return diagnostics.measure(working.engine, server, counted)


def described(measured: diagnostics.Diagnostics, instance: Any) -> "objects.Diagnostics":
    """Return the words of Nova's API since 2.48; times are nanoseconds, sizes are bytes."""
    found = objects.Diagnostics(
        state=_STATES[measured.state],
        driver=DRIVER,
        hypervisor=fields.HVType.DOCKER,
        hypervisor_os="linux",
        uptime=measured.uptime,
        config_drive=bool(instance.config_drive),
    )
    found.memory_details = objects.MemoryDiagnostics(
        maximum=measured.memory_limit, used=measured.memory
    )
    for number, spent in enumerate(measured.cpu):
        found.add_cpu(id=number, time=spent)
    found.add_disk(read_bytes=measured.read, write_bytes=measured.written)
    for each in measured.interfaces:
        found.add_nic(
            mac_address=each.mac,
            rx_octets=each.rx_bytes,
            rx_packets=each.rx_packets,
            rx_errors=each.rx_errors,
            rx_drop=each.rx_drops,
            tx_octets=each.tx_bytes,
            tx_packets=each.tx_packets,
            tx_errors=each.tx_errors,
            tx_drop=each.tx_drops,
        )
    return found


def flat(measured: diagnostics.Diagnostics) -> dict[str, int]:
    """Return the words of Nova's API before 2.48, which every driver chooses for itself."""
    found = {
        "memory": measured.memory_limit,
        "memory-actual": measured.memory,
        "pids": measured.pids,
        "read": measured.read,
        "write": measured.written,
    }
    for number, spent in enumerate(measured.cpu):
        found[f"cpu{number}_time"] = spent
    for number, each in enumerate(measured.interfaces):
        found[f"eth{number}_rx"] = each.rx_bytes
        found[f"eth{number}_rx_packets"] = each.rx_packets
        found[f"eth{number}_tx"] = each.tx_bytes
        found[f"eth{number}_tx_packets"] = each.tx_packets
    return found
