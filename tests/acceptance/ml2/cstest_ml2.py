# SPDX-License-Identifier: Apache-2.0
"""A mechanism of Neutron's ML2 plugin that needs no agent: who has the port plugs it himself.

Not a product: nobody filters, and a network doesn't leave its host. ``mechanism_drivers =
cstest_tap`` in ml2_conf.ini.
"""

from typing import Any

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api

#: A port whose name begins so is bound, and never comes up.
DOWN = "cstest-down"


class TapMechanismDriver(api.MechanismDriver):  # type: ignore[misc]
    """Binds every port as a tap, at once."""

    def initialize(self) -> None:
        """Nothing is to be set up."""

    @property
    def connectivity(self) -> str:
        return str(portbindings.CONNECTIVITY_L2)

    def bind_port(self, context: Any) -> None:
        port = context.current
        if port[portbindings.VNIC_TYPE] != portbindings.VNIC_NORMAL:
            return
        down = port["name"].startswith(DOWN)
        context.set_binding(
            context.segments_to_bind[0][api.ID],
            portbindings.VIF_TYPE_TAP,
            {portbindings.CAP_PORT_FILTER: False},
            status=constants.PORT_STATUS_DOWN if down else constants.PORT_STATUS_ACTIVE,
        )
