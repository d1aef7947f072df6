# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine's JSON: what it answers, made plain, and of networks what we send.

Source of the field names: the Docker Engine API reference, versions 1.41 to 1.51.
"""

import datetime
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from container_stack.host import engine_model as model

BRIDGE_OPTION = "com.docker.network.bridge.name"
MTU_OPTION = "com.docker.network.driver.mtu"

_EXITED = re.compile(r"Exited \((\d+)\)")


def label_filter(labels: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return the filter for things that carry these labels; a value of None admits any."""
    wanted = [key if value is None else f"{key}={value}" for key, value in labels.items()]
    return {"label": wanted} if wanted else {}


def addresses(address4: str | None, address6: str | None) -> dict[str, str]:
    """Return the fixed addresses that a container is to have in a network."""
    fixed = {"IPv4Address": address4, "IPv6Address": address6}
    return {key: value for key, value in fixed.items() if value}


def inspected_container(data: Mapping[str, Any]) -> model.Container:
    """Return the container that GET /containers/ID/json describes."""
    state = data["State"]
    started_at = timestamp(state["StartedAt"])
    stopped = state["Status"] in ("exited", "dead")
    return model.Container(
        id=data["Id"],
        name=data["Name"].removeprefix("/"),
        image_id=data["Image"],
        state=state["Status"],
        pid=state["Pid"] or None,
        sandbox=(data["NetworkSettings"].get("SandboxKey") or None) if state["Pid"] else None,
        exit_code=state["ExitCode"] if stopped and started_at else None,
        labels=data["Config"]["Labels"] or {},
        started_at=started_at,
        addresses=_container_addresses(data["NetworkSettings"]["Networks"]),
        mounts=_container_mounts(data["Mounts"]),
        user=data["Config"].get("User") or "",
    )


def listed_container(data: Mapping[str, Any]) -> model.Container:
    """Return the container that one element of GET /containers/json describes."""
    exited = _EXITED.match(data["Status"])
    # Links and swarm aliases add names with a second slash.
    names = [name for name in data["Names"] if name.count("/") == 1]
    return model.Container(
        id=data["Id"],
        name=names[0].removeprefix("/") if names else "",
        image_id=data["ImageID"],
        state=data["State"],
        pid=None,
        sandbox=None,
        exit_code=int(exited[1]) if exited else None,
        labels=data["Labels"] or {},
        started_at=None,
        addresses=_container_addresses(data["NetworkSettings"]["Networks"]),
        mounts=_container_mounts(data["Mounts"]),
    )


def _container_addresses(
    networks: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, tuple[str, ...]]:
    result = {}
    for name, endpoint in (networks or {}).items():
        fixed = endpoint.get("IPAMConfig") or {}
        pair = (
            endpoint.get("IPAddress") or fixed.get("IPv4Address"),
            endpoint.get("GlobalIPv6Address") or fixed.get("IPv6Address"),
        )
        result[name] = tuple(address for address in pair if address)
    return result


def _container_mounts(mounts: Sequence[Mapping[str, Any]] | None) -> tuple[model.Mount, ...]:
    return tuple(
        model.Mount(
            source=each.get("Name") or each.get("Source", ""),
            target=each["Destination"],
            kind=each["Type"],
            read_only=not each["RW"],
            propagation=each.get("Propagation") or None,
        )
        for each in mounts or ()
    )


def event(data: Mapping[str, Any]) -> model.Event:
    """Return the event that one object of GET /events describes."""
    attributes = dict(data["Actor"].get("Attributes") or {})
    name = attributes.pop("name", "")
    return model.Event(
        action=data["Action"],
        container_id=data["Actor"]["ID"],
        name=name,
        labels=attributes,
        time=data["timeNano"] / 1e9,
    )


def since(time: float) -> str:
    """Return what GET /events is told so that an event of this time comes, too.

    A microsecond less: of an :class:`Event`'s nanoseconds a float keeps steps of 238, and may be
    later than the engine's own time.
    """
    return f"{time - 1e-6:.6f}"


def network_config(
    name: str,
    subnets: Sequence[model.Subnet],
    *,
    mtu: int | None,
    bridge: str | None,
    labels: Mapping[str, str],
    internal: bool,
) -> dict[str, Any]:
    """Return the keyword arguments of the SDK's create_network().

    :raises ValueError: a subnet isn't one.
    """
    pools = [
        {"Subnet": subnet.cidr, **({"Gateway": subnet.gateway} if subnet.gateway else {})}
        for subnet in subnets
    ]
    options = {BRIDGE_OPTION: bridge, MTU_OPTION: mtu}
    return {
        "name": name,
        "driver": "bridge",
        "options": {key: str(value) for key, value in options.items() if value is not None},
        "ipam": {"Driver": "default", "Config": pools},
        "check_duplicate": True,
        "internal": internal,
        "labels": dict(labels),
        "enable_ipv6": any(ipaddress.ip_network(each.cidr).version == 6 for each in subnets),
    }


def network(data: Mapping[str, Any]) -> model.Network:
    """Return the network that GET /networks/ID, or one element of GET /networks, describes."""
    options = data.get("Options") or {}
    mtu = options.get(MTU_OPTION)
    pools = (data.get("IPAM") or {}).get("Config") or ()
    return model.Network(
        id=data["Id"],
        name=data["Name"],
        subnets=tuple(model.Subnet(each["Subnet"], each.get("Gateway")) for each in pools),
        labels=data.get("Labels") or {},
        # The engine names a bridge itself when nobody else does.
        bridge=options.get(BRIDGE_OPTION) or f"br-{data['Id'][:12]}",
        mtu=int(mtu) if mtu else None,
        internal=data.get("Internal", False),
        containers=tuple(sorted(each["Name"] for each in (data.get("Containers") or {}).values())),
    )


def timestamp(text: str | None) -> datetime.datetime | None:
    """Return a time of the engine's; its zero, the year 1, is None."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.datetime.fromisoformat(text)
