# SPDX-License-Identifier: Apache-2.0
"""The container that an account's storlets run in, exactly as storlets' own gateway makes it.

Whatever differed here would be verified in one world and used in another. The facts come from
storlets 18: storlets/gateway/gateways/docker/runtime.py and gateways/container/runtime.py.
"""

import os
import posixpath

from container_stack.host import containers
from container_stack.storlets import gateway as gateways

#: Where a sandbox sees its pipes and its storlets.
CHANNELS, STORLETS = "/mnt/channels", "/var/lib/storlets"
#: The pipe of the process that starts storlets' daemons.
FACTORY = "factory_pipe"
#: What the gateway finds its sandboxes by.
LABELS = {"managed_by": "storlets"}
PYTHONPATH = posixpath.join(gateways.NATIVE, "python")

#: What the engine grants to a container of which nobody says anything, as the gateway does.
CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)


def spec(
    gateway: gateways.Gateway,
    scope: str,
    image: str,
    *,
    user: str,
    name: str | None = None,
    pipes: str | None = None,
) -> containers.ContainerSpec:
    """Return a sandbox.

    :param scope: of the account.
    :param user: UID of Swift's servers.
    :param name: of the container; None is the one by which the gateway looks for it.
    :param pipes: directory on the node to have the pipes in; None is the gateway's.
    """
    name = name or f"{scope}_{scope}"
    limits = gateway.limits
    return containers.ContainerSpec(
        name=name,
        image=image,
        entrypoint=["python3"],
        command=[
            *("-m", "storlets.agent.daemon_factory", posixpath.join(CHANNELS, FACTORY)),
            *(gateway.options.get("storlet_daemon_factory_debug_level", "DEBUG"), name),
        ],
        environment={"PYTHONPATH": PYTHONPATH},
        labels=LABELS,
        mounts=[
            containers.Mount("/dev/log", "/dev/log"),
            containers.Mount(pipes or os.path.join(gateway.pipes, scope), CHANNELS),
            containers.Mount(os.path.join(gateway.storlets, scope), STORLETS),
            containers.Mount(gateways.NATIVE, gateways.NATIVE, read_only=True),
        ],
        network_disabled=True,
        user=user,
        auto_remove=True,
        stop_signal="SIGHUP",
        capabilities=CAPABILITIES,
        no_new_privileges=False,
        limits=containers.Limits(
            memory=limits.memory,
            # Where nobody says anything the engine allows as much again.
            swap=limits.memory or 0,
            cpu_period=limits.cpu_period,
            cpu_quota=limits.cpu_quota,
            cpuset_cpus=limits.cpuset_cpus,
            cpuset_mems=limits.cpuset_mems,
            pids=limits.pids,
        ),
    )
