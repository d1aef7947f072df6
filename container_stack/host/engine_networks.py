# SPDX-License-Identifier: Apache-2.0
"""The networks and volumes of a Docker Engine; use these by :class:`containers.Engine`."""

import contextlib
import ipaddress
import logging
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.host import engine_client, engine_json
from container_stack.host.engine_model import Network, Subnet, Volume

LOG = logging.getLogger(__name__)

Labels = Mapping[str, str | None]


class Surroundings:
    """What containers use besides their images."""

    _connection: engine_client.Connection

    # Volumes

    def create_volume(self, name: str, labels: Mapping[str, str] | None = None) -> Volume:
        """Make a volume and return it; idempotent: one that exists keeps its own labels."""
        with self._connection.use() as client:
            made = client.create_volume(name, labels=dict(labels or {}))
            return Volume(made["Name"], made["Labels"] or {})

    def remove_volume(self, name: str) -> None:
        """Remove a volume with all it holds; idempotent.

        :raises Busy: a container uses it, running or not.
        """
        with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
            client.remove_volume(name)

    def list_volumes(self, labels: Labels | None = None) -> list[Volume]:
        """Return the volumes with these labels; a value of None admits any."""
        with self._connection.use() as client:
            found = client.volumes(filters=engine_json.label_filter(labels or {}))["Volumes"]
            return [Volume(each["Name"], each["Labels"] or {}) for each in found or ()]

    # Networks

    def create_network(
        self,
        name: str,
        subnets: Sequence[Subnet],
        *,
        mtu: int | None = None,
        bridge: str | None = None,
        labels: Mapping[str, str] | None = None,
        internal: bool = False,
    ) -> str:
        """Make a network over a Linux bridge and return its id.

        :param subnets: at most one IPv4 and one IPv6; needed, because an engine left to itself
            runs out of subnets at some thirty networks.
        :param bridge: the name that the Linux bridge gets.
        :param internal: no way out of the host.
        :raises AlreadyExists: the name is taken.
        :raises Busy: another network has overlapping subnets, or the bridge's name.
        """
        if not subnets:
            raise exceptions.InvalidRequest(f"Network {name} needs a subnet; name one.")
        for subnet in subnets:
            _check_cidr(subnet.cidr)
        config = engine_json.network_config(
            name, subnets, mtu=mtu, bridge=bridge, labels=labels or {}, internal=internal
        )
        with self._connection.use() as client:
            network_id: str = client.create_network(**config)["Id"]
        LOG.info("Created network %(name)s", {"name": name})
        return network_id

    def remove_network(self, name: str) -> None:
        """Remove a network; idempotent.

        :raises Busy: a running container is on it.
        """
        with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
            client.remove_network(name)
            LOG.info("Removed network %(name)s", {"name": name})

    def inspect_network(self, name: str) -> Network:
        """Return a network, by name or id."""
        with self._connection.use() as client:
            return engine_json.network(client.inspect_network(name))

    def list_networks(self, labels: Labels | None = None) -> list[Network]:
        """Return the networks with these labels; a value of None admits any."""
        with self._connection.use() as client:
            found = client.networks(filters=engine_json.label_filter(labels or {}))
            return [engine_json.network(each) for each in found]

    def connect(
        self,
        network: str,
        container: str,
        *,
        address4: str | None = None,
        address6: str | None = None,
    ) -> None:
        """Connect a container, running or not, to one more network.

        :raises AlreadyExists: it is on the network.
        :raises Busy: the address is taken.
        """
        with self._connection.use() as client:
            client.connect_container_to_network(
                container, network, ipv4_address=address4, ipv6_address=address6
            )

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network; idempotent."""
        try:
            with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
                client.disconnect_container_from_network(container, network, force=True)
        except exceptions.ContainerStackError as exc:
            if "is not connected to" not in str(exc):
                raise


def _check_cidr(cidr: str) -> None:
    try:
        ipaddress.ip_network(cidr)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{cidr!r} is no subnet: {exc}.") from exc
