# SPDX-License-Identifier: Apache-2.0
"""What a container is to be, in the Docker Engine's JSON.

Source of the field names: the Docker Engine API reference, versions 1.41 to 1.51.
"""

from typing import Any

from container_stack.host import engine_json
from container_stack.host import engine_model as model

#: From this version read-only binds are recursive unless told otherwise, and a MAC address
#: belongs to the endpoint.
API_1_44 = (1, 44)


def container_config(spec: model.ContainerSpec, api: tuple[int, ...]) -> dict[str, Any]:
    """Return the body of POST /containers/create."""
    endpoint: dict[str, Any] = {"IPAMConfig": engine_json.addresses(spec.address4, spec.address6)}
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "NetworkDisabled": spec.network_disabled,
        "StdinOnce": spec.open_stdin and spec.stdin_once,
        "HostConfig": _host_config(spec, api),
        "NetworkingConfig": {"EndpointsConfig": {spec.network: endpoint} if spec.network else {}},
    }
    if spec.mac:
        (endpoint if api >= API_1_44 else config)["MacAddress"] = spec.mac
    if spec.published:
        config["ExposedPorts"] = {inside: {} for inside, _outside in spec.published}
    optional = {
        "Cmd": spec.command and list(spec.command),
        "Entrypoint": spec.entrypoint and list(spec.entrypoint),
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "StopSignal": spec.stop_signal,
    }
    return config | {key: value for key, value in optional.items() if value is not None}


def _host_config(spec: model.ContainerSpec, api: tuple[int, ...]) -> dict[str, Any]:
    restart, _, retries = spec.restart.partition(":")
    config: dict[str, Any] = {
        "NetworkMode": spec.network or "none",
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        "SecurityOpt": _security(spec),
        "ReadonlyRootfs": spec.read_only_root,
        "Mounts": [_mount(each, api) for each in spec.mounts],
        "Init": spec.init,
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": int(retries or 0)},
        "AutoRemove": spec.auto_remove,
        "Sysctls": dict(spec.sysctls),
        "Ulimits": [
            {"Name": name, "Soft": soft, "Hard": hard}
            for name, (soft, hard) in spec.ulimits.items()
        ],
    }
    return config | limits(spec.limits) | _extras(spec)


def limits(wanted: model.Limits) -> dict[str, Any]:
    """Return what POST /containers/create has in its HostConfig, and .../update as it is."""
    config: dict[str, Any] = {}
    if wanted.memory is not None:
        config |= {"Memory": wanted.memory, "MemorySwap": wanted.memory + wanted.swap}
    optional = {
        "CpuPeriod": wanted.cpu_period,
        "CpuQuota": wanted.cpu_quota,
        "CpuShares": wanted.cpu_shares,
        "CpusetCpus": wanted.cpuset_cpus,
        "CpusetMems": wanted.cpuset_mems,
        "PidsLimit": wanted.pids,
    }
    return config | {key: value for key, value in optional.items() if value is not None}


def _security(spec: model.ContainerSpec) -> list[str]:
    return [*(["no-new-privileges"] if spec.no_new_privileges else []), *spec.security]


def _extras(spec: model.ContainerSpec) -> dict[str, Any]:
    """Return what is only said when it is wanted, as few containers do."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for inside, outside in spec.published:
        address, _, port = outside.rpartition(":")
        at = {"HostIp": address.strip("[]")} if address else {}
        bindings.setdefault(inside, []).append({"HostPort": port, **at})
    requests = [{"Driver": "", "DeviceIDs": list(spec.gpus), "Capabilities": [["gpu"]]}]
    extras: dict[str, Any] = {
        "Privileged": spec.privileged,
        "Dns": list(spec.dns),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": [f"{name}:{address}" for name, address in spec.hosts],
        "Devices": [_device(each) for each in spec.devices],
        "DeviceCgroupRules": list(spec.device_rules),
        "DeviceRequests": requests if spec.gpus else [],
        "PortBindings": bindings,
        "StorageOpt": {"size": str(spec.storage)} if spec.storage else {},
        "VolumesFrom": list(spec.volumes_from),
        "IpcMode": "host" if "ipc" in spec.shared else "",
        "PidMode": "host" if "pid" in spec.shared else "",
        "UsernsMode": spec.userns,
        "Runtime": spec.runtime,
        "LogConfig": _log(spec.log_size) if spec.log_size else {},
    }
    return {key: value for key, value in extras.items() if value}


def _device(device: model.Device) -> dict[str, str]:
    return {
        "PathOnHost": device.source,
        "PathInContainer": device.target,
        "CgroupPermissions": device.access,
    }


def _log(size: int) -> dict[str, Any]:
    # Of two files one is always whole, as the other begins anew.
    options = {"max-size": str(max(size // 2, 1)), "max-file": "2"}
    return {"Type": "json-file", "Config": options}


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
    elif mount.kind == "volume" and not mount.copy:
        config["VolumeOptions"] = {"NoCopy": True}
    elif mount.kind == "tmpfs":
        tmpfs = {"SizeBytes": mount.size, "Mode": mount.mode}
        config["TmpfsOptions"] = {key: value for key, value in tmpfs.items() if value is not None}
    return config
