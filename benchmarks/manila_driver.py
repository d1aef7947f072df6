# SPDX-License-Identifier: Apache-2.0
"""Manila's drivers without Manila's services: made, and called, as the share manager does it."""

import importlib
import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# It registers what drivers read of manila.conf.
import manila.common.config  # noqa: F401
from manila.share import configuration, driver
from oslo_config import cfg

OURS = "container_stack.drivers.manila.ContainerShareDriver"
ITS_OWN = "manila.share.drivers.container.driver.ContainerShareDriver"


class Model(dict[str, Any]):
    """What Manila hands to drivers: values by key, and by attribute, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as exc:
            raise AttributeError(name) from exc


def made(path: str, section: str, options: Mapping[str, object], directory: Path) -> Any:
    """Return a driver that has started.

    :param path: its class, with dots.
    :param section: of manila.conf; the options are given there.
    :param directory: for locks, and for the files that are manila.conf to all drivers here.
    """
    lines = [f"{name} = {value}\n" for name, value in options.items()]
    lines = ["[oslo_concurrency]\n", f"lock_path = {directory}\n", f"[{section}]\n", *lines]
    files = directory / "manila.conf.d"
    files.mkdir(exist_ok=True)
    files.joinpath(f"{section}.conf").write_text("".join(lines), encoding="utf-8")
    cfg.CONF(["--config-dir", str(files)], project="manila", default_config_files=[])
    module, _dot, name = path.rpartition(".")
    found: Any = getattr(importlib.import_module(module), name)(
        configuration=configuration.Configuration(driver.share_opts, config_group=section),
        private_storage=None,
    )
    found.do_setup(None)
    found.check_for_setup_error()
    return found


def server(made: Any, server_id: str, cidr: str, number: int) -> Model:
    """Have a driver make a share server, and return it as Manila knows it.

    :param number: of its address in the network, which has a gateway.
    """
    network = ipaddress.ip_network(cidr)
    allocation = Model(
        id=str(uuid.uuid4()),
        ip_address=str(network[number]),
        mac_address=f"02:00:00:00:00:{number:02x}",
        cidr=cidr,
        gateway=str(network[1]),
        mtu=1500,
        segmentation_id=None,
    )
    info = {
        "server_id": server_id,
        "network_allocations": [allocation],
        "security_services": [],
        "neutron_net_id": None,
        "neutron_subnet_id": None,
    }
    details = made._setup_server([info])
    return Model(id=server_id, backend_details=details)


def share(share_id: str, its_server: Model) -> Model:
    """Return a share of 1 GiB as Manila knows it before it is made."""
    return Model(
        id=share_id,
        share_id=share_id,
        size=1,
        share_proto="CIFS",
        project_id="project",
        share_server=its_server,
    )


def create(made: Any, wanted: Model) -> None:
    """Have a driver make a share."""
    made.create_share(None, wanted, wanted["share_server"])


def admit(made: Any, wanted: Model, users: Sequence[str] = ("alice",)) -> None:
    """Have a driver let users into a share that nobody could enter."""
    rules = [
        {"access_id": name, "access_type": "user", "access_to": name, "access_level": "rw"}
        for name in users
    ]
    made.update_access(None, wanted, rules, rules, [], [], share_server=wanted["share_server"])
