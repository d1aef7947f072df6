# SPDX-License-Identifier: Apache-2.0
"""The back end under test: container-stack's CIFS shares, with all its options in one place."""

import contextlib
import dataclasses
import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container_stack.rootwrap import config

from . import account, backend, host, manila, rest, samba

#: GiB that all shares together may take; as text it sorts before what is left of it.
POOL_GB = 16
#: The driver's state directory, below the service's own.
STATE = "shares"
#: Beside it, who may sign the certificates of LDAP directories.
CA_FILE = "ldap-ca.pem"
#: Bytes; no default of anything, so that it is seen where it must be.
MTU = 1430

#: Marks what is tried as services are run; that root can do it, too, is shown by one module.
BY_A_NORMAL_USER = pytest.mark.parametrize("shares", ["normal"], indirect=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A share that exists, and where clients find it."""

    id: str
    server: str
    location: str

    @property
    def address(self) -> str:
        """The share server's address."""
        return self.location.split("\\")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class Cifs:
    """A running back end and a client of a project that may use it."""

    backend: backend.Backend
    client: rest.Client
    share_type: str
    subnet: ipaddress.IPv4Network

    @property
    def owner(self) -> str:
        """What the driver writes on everything that is this back end's."""
        return f"manila-{self.backend.place.name}"

    @property
    def state(self) -> Path:
        """The driver's state directory."""
        return self.backend.place.directory / STATE

    def ask(self, network: str | None, size: int = 1, protocol: str = "CIFS") -> str:
        """Ask for a share and return its id."""
        share_type = self.share_type
        return self.client.create_share(
            network=network, share_type=share_type, size=size, protocol=protocol
        ).id

    def made(self, share: str) -> Made:
        """Wait for a share and return it."""
        found = self.client.available(share)
        [location] = self.client.exports(share)
        return Made(share, found.share_server_id, location)

    def key(self, share: Made, user: str, level: str = "rw") -> str:
        """Let a user in and return the key that he logs in with."""
        rule = self.client.allow(share.id, user, level=level)
        assert rule.state == "active"
        return self.key_of(share, user)

    def key_of(self, share: Made, user: str) -> str:
        """Return the key of a user who has been let in, from the access list."""
        [listed] = [each for each in self.client.rules(share.id) if each.access_to == user]
        assert listed.access_key, "The access list shows no key"
        return listed.access_key

    @contextlib.contextmanager
    def network(self, client: rest.Client | None = None) -> Iterator[str]:
        """Make a share network, and delete it with its servers and the shares left by failures."""
        client = client or self.client
        network = client.create_network("harbour")
        yield network
        for share in client.shares(network):
            client.reset("shares", share)
            client.delete_share(share)
        # With the network Manila would lose sight of a server that it is still deleting.
        for server in client.servers(network):
            client.delete_server(server)
        client.delete_network(network)

    @contextlib.contextmanager
    def share(self, network: str | None, size: int = 1) -> Iterator[Made]:
        """Make a share, and delete it unless that has been done."""
        made = self.made(self.ask(network, size))
        yield made
        if self.client.share(made.id):
            self.client.delete_share(made.id)
        self.backend.plane.publish()


def options(
    place: backend.Place, subnet: ipaddress.IPv4Network, image: str
) -> Mapping[str, object]:
    """Return the back end's section of manila.conf, and prepare what it speaks of."""
    state = place.directory / STATE
    state.mkdir()
    os.chown(state, place.identity.user, place.identity.group)
    config.install(place.rootwrap, ["manila"], str(state), str(account.DAEMON.parent))
    sudo = "sudo -n " if place.identity.user else ""
    return {
        "share_driver": "container_stack.drivers.manila.ContainerShareDriver",
        "driver_handles_share_servers": True,
        "container_stack_state_dir": state,
        "container_stack_root_helper": f"{sudo}{account.DAEMON} {place.rootwrap}/rootwrap.conf",
        "container_stack_docker_url": account.ENGINE,
        "container_image_name": image,
        "container_stack_storage": "loop",
        "container_stack_share_protocols": "CIFS,NFS",
        # The NFS client in these tests knows no later one.
        "container_stack_nfs_minor_versions": "0,1,2",
        "container_stack_pool_size_gb": POOL_GB,
        # Who has a directory writes it.
        "container_stack_ldap_ca_file": place.directory / CA_FILE,
        "network_api_class": "manila.network.standalone_network_plugin.StandaloneNetworkPlugin",
        "standalone_network_plugin_gateway": subnet[1],
        "standalone_network_plugin_mask": subnet.prefixlen,
        "standalone_network_plugin_allowed_ip_ranges": f"{subnet[17]}-{subnet[99]}",
        "standalone_network_plugin_mtu": MTU,
    }


@contextlib.contextmanager
def running(plane: manila.ControlPlane, user: str) -> Iterator[Cifs]:
    """Run the back end as ``root`` or as the ``normal`` user; in the end nothing is left of it."""
    name, subnet = f"cstest_{user}", host.unused_subnet()
    with contextlib.ExitStack() as undo:
        reference = undo.enter_context(samba.current_image())
        state = plane.directory / name / STATE
        undo.callback(host.sweep, f"manila-{name}", state)
        made = undo.enter_context(
            backend.running(
                plane,
                name,
                lambda place: options(place, subnet, reference),
                normal_user=user == "normal",
            )
        )
        client = made.client()
        share_type = client.create_type(name, share_backend_name=name)
        cifs = Cifs(made, client, share_type, subnet)
        yield cifs
        made.service.stop()
        left = host.left(cifs.owner, subnet, state)
        assert not left, f"Left behind: {', '.join(left)}"
