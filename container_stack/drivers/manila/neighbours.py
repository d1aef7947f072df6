# SPDX-License-Identifier: Apache-2.0
"""The other back ends of this host that have this driver, as manila.conf says them."""

import dataclasses
from typing import Any

from manila.share import configuration, driver, manager
from manila.share import utils as share_utils
from oslo_config import cfg
from oslo_utils import importutils

from container_stack import exceptions
from container_stack.conf import manila as conf
from container_stack.shares import assembly, service

CONF = cfg.CONF


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """A back end.

    :param group: its section of manila.conf.
    """

    group: str
    settings: assembly.Settings
    shares: service.ShareService


class Neighbours:
    """Finds back ends, and keeps what was opened.

    :param own: the back end that asks.
    :param kind: the driver's class; only back ends with it are found.
    """

    def __init__(self, own: Neighbour, kind: type) -> None:
        self._kind = kind
        self._known = {own.group: own}

    def at(self, host: str) -> Neighbour:
        """Return the back end of a ``host@backend#pool``.

        :raises NotSupported: it isn't on this host, isn't in this manila.conf, or has another
            driver.
        """
        group = str(share_utils.extract_host(host, level="backend_name"))
        if group not in CONF.list_all_sections():
            raise exceptions.NotSupported(f"This manila.conf has no back end {group}.")
        if host.partition("@")[0] != CONF.host:
            raise exceptions.NotSupported(f"{host} is on another host than {CONF.host}.")
        return self.of(group)

    def of(self, group: str) -> Neighbour:
        """Return the back end with this section.

        :raises NotSupported: it has another driver.
        """
        if group not in self._known:
            here = _configuration(group)
            found = importutils.import_class(here.safe_get("share_driver"))
            if not (isinstance(found, type) and issubclass(found, self._kind)):
                raise exceptions.NotSupported(f"Back end {group} has another driver.")
            settings = conf.settings(here.safe_get, conf.owner(group))
            self._known[group] = Neighbour(group, settings, assembly.open_service(settings))
        return self._known[group]


def _configuration(group: str) -> Any:
    made = configuration.Configuration(driver.share_opts, config_group=group)
    made.append_config_values(manager.share_manager_opts)
    made.append_config_values(conf.OPTS)
    return made
