# SPDX-License-Identifier: Apache-2.0
"""How images of accounts are managed: the plain values that a program gives the image manager."""

import dataclasses
import os

from container_stack.host import containers
from container_stack.storlets.image import archive

MIB, GIB = 1024**2, 1024**3

#: Where storlets' own installer puts it on every node.
GATEWAY_CONF = "/etc/swift/storlet_docker_gateway.conf"
INVENTORY = "/etc/container-stack/storlet-nodes.yaml"
STATE_DIR = "/var/lib/container-stack/storlets"


@dataclasses.dataclass(frozen=True, slots=True)
class Rollout:
    """How a deployment goes over the nodes.

    :param canaries: nodes that change first, one after the other.
    :param wave: nodes that change together after them.
    :param concurrency: nodes that are spoken to at once.
    :param max_down: nodes that may be unreachable without stopping a deployment.
    :param keep: versions of an account that are kept, on nodes and in Swift.
    """

    canaries: int = 1
    wave: int = 10
    concurrency: int = 16
    max_down: int = 0
    keep: int = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the image manager needs to know of this host and of the cloud.

    :param gateway_conf: the nodes' own configuration of the storlet gateway, or a copy.
    :param inventory: YAML file that lists the nodes.
    :param ring: an object ring, whose devices are the nodes instead.
    :param ring_url: where the engine of a device's host is, with {ip}.
    :param docker_url: this host's own engine, for building, running and verifying.
    :param base_image: reference of the operator's base image in that engine.
    :param base_object: name of the base image's archive in each account.
    :param lock_url: of tooz's back end that keeps two managers off one account; None for files
        below ``state_dir``.
    :param segment_size: bytes; larger archives are stored in segments of so many.
    :param registry: host:port[/path] of a registry that nodes pull from; None to send archives.
    :param sandbox_user: whom sandboxes run as: Swift's user on the nodes, by name or UID[:GID];
        None for this host's user swift.
    :param growth: bytes of disk that an image may take while it is verified.
    :param verify_timeout: seconds for a check that runs the image.
    :param node_timeout: seconds that a node's engine may keep silent.
    :param swift_timeout: seconds that Swift may keep silent.
    """

    gateway_conf: str = GATEWAY_CONF
    inventory: str = INVENTORY
    ring: str | None = None
    ring_url: str = "ssh://{ip}"
    docker_url: str = containers.DEFAULT_URL
    base_image: str = "storlet-base:latest"
    base_object: str = "storlet-base.tar"
    state_dir: str = STATE_DIR
    lock_url: str | None = None
    reseller_prefix: str = "AUTH_"
    segment_size: int = 256 * MIB
    registry: str | None = None
    sandbox_user: str | None = None
    rollout: Rollout = dataclasses.field(default_factory=Rollout)
    bounds: archive.Bounds = dataclasses.field(default_factory=archive.Bounds)
    growth: int = GIB
    verify_timeout: float = 60.0
    node_timeout: float = 60.0
    swift_timeout: float = 60.0

    @property
    def locks(self) -> str:
        """URL of tooz's back end: the one that was given, or files below the state directory."""
        return self.lock_url or f"file://{os.path.join(self.state_dir, 'locks')}"
