# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine's JSON: what we send, made from plain values, and what we get, made plain.

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
#: From this version read-only binds are recursive unless told otherwise, and a MAC address
#: belongs to the endpoint.
API_1_44 = (1, 44)

_EXITED = re.compile(r"Exited \((\d+)\)")


def label_filter(labels: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return the filter for things that carry these labels; a value of None admits any."""
    wanted = [key if value is None else f"{key}={value}" for key, value in labels.items()]
    return {"label": wanted} if wanted else {}


def container_config(spec: model.ContainerSpec, api: tuple[int, ...]) -> dict[str, Any]:
    """Return the body of POST /containers/create."""
    endpoint: dict[str, Any] = {"IPAMConfig": _addresses(spec.address4, spec.address6)}
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "NetworkDisabled": spec.network_disabled,
        "StdinOnce": spec.open_stdin,
        "HostConfig": _host_config(spec, api),
        "NetworkingConfig": {"EndpointsConfig": {spec.network: endpoint} if spec.network else {}},
    }
    if spec.mac:
        (endpoint if api >= API_1_44 else config)["MacAddress"] = spec.mac
    optional = {
        "Cmd": spec.command and list(spec.command),
        "Entrypoint": spec.entrypoint and list(spec.entrypoint),
        "Hostname": spec.hostname,
        "User": spec.user,
        "StopSignal": spec.stop_signal,
    }
    return config | {key: value for key, value in optional.items() if value is not None}


def _host_config(spec: model.ContainerSpec, api: tuple[int, ...]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "NetworkMode": spec.network or "none",
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        "SecurityOpt": ["no-new-privileges"] if spec.no_new_privileges else [],
        "ReadonlyRootfs": spec.read_only_root,
        "Mounts": [_mount(each, api) for each in spec.mounts],
        "Init": spec.init,
        "RestartPolicy": {"Name": spec.restart},
        "AutoRemove": spec.auto_remove,
        "Sysctls": dict(spec.sysctls),
        "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard}
            for name, (soft, hard) in spec.ulimits.items()
        ],
    }
    if spec.memory is not None:
        config |= {"Memory": spec.memory, "MemorySwap": spec.memory + spec.swap}
    optional = {
        "CpuPeriod": spec.cpu_period,
        "CpuQuota": spec.cpu_quota,
        "CpusetCpus": spec.cpuset_cpus,
        "CpusetMems": spec.cpuset_mems,
        "PidsLimit": spec.pids,
    }
    return config | {key: value for key, value in optional.items() if value is not None}


def _mount(mount: model.Mount, api: tuple[int, ...]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Type": mount.kind,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.kind == "bind":
        bind: dict[str, Any] = {"Propagation": mount.propagation} if mount.propagation else {}
        if mount.read_only and api >= API_1_44:
            bind["ReadOnlyNonRecursive"] = True
        config["BindOptions"] = bind
    elif mount.kind == "tmpfs":
        tmpfs = {"SizeBytes": mount.size, "Mode": mount.mode}
        config["TmpfsOptions"] = {key: value for key, value in tmpfs.items() if value is not None}
    return config


def endpoint_config(address4: str | None, address6: str | None) -> dict[str, Any]:
    """Return how a container is to be connected to a network."""
    return {"IPAMConfig": _addresses(address4, address6)}


def _addresses(address4: str | None, address6: str | None) -> dict[str, str]:
    addresses = {"IPv4Address": address4, "IPv6Address": address6}
    return {key: value for key, value in addresses.items() if value}


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
