# SPDX-License-Identifier: Apache-2.0
"""Waiting until Neutron says that the ports of a server work."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import nova.conf
from nova import exception
from nova.network import model as network_model
from oslo_log import log

CONF = nova.conf.CONF
LOG = log.getLogger(__name__)


def until_active(
    virtapi: Any, instance: Any, network_info: Any
) -> AbstractContextManager[None] | None:
    """Return what is entered around the plugging of ports; its end waits for those not up before.

    None means that there is nothing to wait for: ports that were up before tell nothing when they
    are plugged. It raises VirtualInterfaceCreateException when one doesn't come up, if the
    operator says by ``vif_plugging_is_fatal`` that this matters.
    """
    timeout = CONF.vif_plugging_timeout
    events = _events(network_info) if timeout else []
    return _waiting(virtapi, instance, events, timeout) if events else None


@contextlib.contextmanager
def _waiting(
    virtapi: Any, instance: Any, events: list[tuple[str, str]], timeout: int
) -> Iterator[None]:
    try:
        with virtapi.wait_for_instance_event(
            instance, events, timeout=timeout, error_callback=_failed
        ):
            yield
    except exception.InstanceEventTimeout as exc:
        if CONF.vif_plugging_is_fatal:
            raise exception.VirtualInterfaceCreateException() from exc
        LOG.warning("Ports of this server aren't up yet; it runs all the same", instance=instance)


def _events(network_info: Any) -> list[tuple[str, str]]:
    return [
        ("network-vif-plugged", vif["id"])
        for vif in network_info or ()
        if vif.get("active", True) is False
        and vif["type"] not in (network_model.VIF_TYPE_UNBOUND, "noop")
    ]


def _failed(event_name: str, instance: Any) -> None:
    LOG.error("Neutron reports that %(event)s failed", {"event": event_name}, instance=instance)
    if CONF.vif_plugging_is_fatal:
        raise exception.VirtualInterfaceCreateException()
