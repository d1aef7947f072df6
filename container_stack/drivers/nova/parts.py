# SPDX-License-Identifier: Apache-2.0
"""What the driver works with on one host, put together from nova.conf."""

import dataclasses
import os
from typing import Any

from container_stack.conf import nova as conf
from container_stack.drivers.nova import glance, gpus, plans
from container_stack.host import containers
from container_stack.servers import assembly, consoles, service, standing


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """Everything that keeps this host's servers.

    :param owner: names this host's nova-compute among all users of the engine.
    """

    owner: str
    docker: assembly.Service
    glance: glance.Glance
    plans: plans.Plans
    devices: gpus.Devices
    consoles: consoles.Consoles
    standing: standing.Standing

    @property
    def engine(self) -> containers.Engine:
        """The engine that the servers are in."""
        return self.docker.engine

    @property
    def servers(self) -> service.Servers:
        """The servers themselves."""
        return self.docker.servers

    def close(self) -> None:
        """Let go of everything; servers run on."""
        self.consoles.close()
        self.docker.close()


def open_parts(configuration: Any, host: str) -> Parts:
    """Return the parts for a host. Nothing is started or contacted until it is used.

    :raises InvalidRequest: options contradict each other.
    """
    settings = conf.settings(configuration, f"nova-{host}")
    docker = assembly.open_service(settings)
    return Parts(
        owner=settings.owner,
        docker=docker,
        glance=glance.Glance(docker.images, settings.state_dir),
        plans=plans.Plans(conf.policy(configuration), inject_key=configuration.docker.inject_key),
        devices=gpus.Devices(docker.engine, settings.owner, configuration.docker.gpus),
        consoles=_consoles(configuration, settings, docker),
        standing=standing.Standing(docker.servers.list, docker.servers.get),
    )


def _consoles(
    configuration: Any, settings: assembly.Settings, docker: assembly.Service
) -> consoles.Consoles:
    serial = configuration.serial_console
    first, end = (int(each) for each in serial.port_range.split(":"))
    return consoles.Consoles(
        docker.engine,
        os.path.join(settings.state_dir, "consoles"),
        lambda server_id: docker.servers.get(server_id).container_id,
        address=serial.proxyclient_address,
        ports=(first, end),
        shell=configuration.docker.console_shell,
    )
