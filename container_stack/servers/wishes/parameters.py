# SPDX-License-Identifier: Apache-2.0
"""What a tenant asks of his container: the names that he may use, and what they mean.

There are two sets of names, and both may be mixed: those of the Docker API's
``POST /containers/create``, version 1.16, with its ``HostConfig``; and those of the arguments of
its Python client in that time. Nothing is granted here: see
:mod:`container_stack.servers.wishes.policy`.
"""

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.servers.wishes import parameter_forms as forms
from container_stack.servers.wishes import parameter_values as values
from container_stack.servers.wishes import plain_data

Reader = Callable[[object], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for; None and emptiness are no wish. Sizes are bytes.

    :param keys: by field, how the tenant called it.
    :param memory_and_swap: bytes, both together.
    :param volumes: as those of :class:`container_stack.servers.model.Wish`.
    :param published: ports of the container, with one of the host, or "" for any.
    :param image: what he takes the image for; it chooses none.
    :param mac: what he takes the first port's address for.
    """

    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    working_dir: str | None = None
    name: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    tty: bool = False
    open_stdin: bool = False
    memory: int | None = None
    memory_and_swap: int | None = None
    cpu_shares: int | None = None
    cpuset: str | None = None
    volumes: tuple[tuple[str, str, bool], ...] = ()
    volumes_from: tuple[tuple[str, bool], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[tuple[str, str, str], ...] = ()
    exposed: tuple[str, ...] = ()
    published: tuple[tuple[str, str], ...] = ()
    publish_all: bool = False
    restart: str = "no"
    network_disabled: bool = False
    network_mode: str | None = None
    ipc_mode: str | None = None
    pid_mode: str | None = None
    security_options: tuple[str, ...] = ()
    image: str | None = None
    mac: str | None = None
    attached: bool = False
    unused: None = None


_texts = values.list_of(values.text)

HOST_CONFIG: Mapping[str, tuple[str, Reader]] = {
    "Binds": ("volumes", forms.volumes),
    "Links": ("links", values.list_of(values.link)),
    "LxcConf": ("hostname", forms.lxc),
    "PortBindings": ("published", forms.port_bindings),
    "PublishAllPorts": ("publish_all", values.boolean),
    "Privileged": ("privileged", values.boolean),
    "Dns": ("dns", values.list_of(values.address)),
    "DnsSearch": ("dns_search", values.list_of(values.domain)),
    "ExtraHosts": ("extra_hosts", values.list_of(values.extra_host)),
    "VolumesFrom": ("volumes_from", values.list_of(values.volumes_from)),
    "CapAdd": ("add_capabilities", values.list_of(values.capability)),
    "CapDrop": ("drop_capabilities", values.list_of(values.capability)),
    "RestartPolicy": ("restart", forms.restart),
    "NetworkMode": ("network_mode", values.text),
    "IpcMode": ("ipc_mode", values.text),
    "PidMode": ("pid_mode", values.text),
    "Devices": ("devices", forms.devices),
    "SecurityOpt": ("security_options", _texts),
    "ContainerIDFile": ("unused", forms.nothing),
    # Where later versions have what 1.16 has beside HostConfig.
    "Memory": ("memory", values.size),
    "MemorySwap": ("memory_and_swap", values.size),
    "CpuShares": ("cpu_shares", values.whole),
    "CpusetCpus": ("cpuset", values.cpuset),
}

KEYS: Mapping[str, tuple[str, Reader]] = {
    "Hostname": ("hostname", values.host),
    "Domainname": ("domainname", values.host),
    "User": ("user", values.user),
    "Memory": ("memory", values.size),
    "MemorySwap": ("memory_and_swap", values.size),
    "CpuShares": ("cpu_shares", values.whole),
    "Cpuset": ("cpuset", values.cpuset),
    "AttachStdin": ("attached", values.boolean),
    "AttachStdout": ("attached", values.boolean),
    "AttachStderr": ("attached", values.boolean),
    "Tty": ("tty", values.boolean),
    "OpenStdin": ("open_stdin", values.boolean),
    "StdinOnce": ("attached", values.boolean),
    "Env": ("environment", values.environment),
    "Cmd": ("command", values.words),
    "Entrypoint": ("entrypoint", values.words),
    "Image": ("image", values.text),
    "Volumes": ("volumes", forms.volumes),
    "WorkingDir": ("working_dir", values.optional_path),
    "NetworkDisabled": ("network_disabled", values.boolean),
    "MacAddress": ("mac", values.mac),
    "ExposedPorts": ("exposed", forms.exposed),
    "SecurityOpts": ("security_options", _texts),
    "SecurityOpt": ("security_options", _texts),
    "PortSpecs": ("exposed", forms.exposed),
    "OnBuild": ("unused", forms.nothing),
    # Of the Python client.
    "command": ("command", values.command_line),
    "user": ("user", values.user),
    "detach": ("attached", values.boolean),
    "stdin_open": ("open_stdin", values.boolean),
    "tty": ("tty", values.boolean),
    "ports": ("exposed", forms.exposed),
    "environment": ("environment", values.environment),
    "dns": ("dns", values.list_of(values.address)),
    "volumes": ("volumes", forms.volumes),
    "volumes_from": ("volumes_from", values.list_of(values.volumes_from)),
    "name": ("name", values.name),
    "hostname": ("hostname", values.host),
    "entrypoint": ("entrypoint", values.command_line),
    "working_dir": ("working_dir", values.optional_path),
    "domainname": ("domainname", values.host),
    "mem_limit": ("memory", values.size),
    "memswap_limit": ("memory_and_swap", values.size),
    "cpu_shares": ("cpu_shares", values.whole),
    "cpuset": ("cpuset", values.cpuset),
    "network_disabled": ("network_disabled", values.boolean),
    "mac_address": ("mac", values.mac),
}
#: Each holds an object of :data:`HOST_CONFIG`.
NESTED = ("HostConfig", "host_config")
#: Their values don't matter, so that several can't contradict each other.
_WITHOUT_EFFECT = ("attached", "unused")


def read(document: Mapping[str, object], ignored: Collection[str] = ()) -> Asked:
    """Return what a tenant asks for.

    :param ignored: keys to pass over, whatever is behind them.
    :raises InvalidRequest: a key is unknown, which names the nearest; a value is none for its
        key; or two keys contradict each other.
    """
    found = _Found({}, {})
    for key, value in document.items():
        if key in ignored or value is None:
            continue
        if key in NESTED:
            _read_host_config(found, key, value, ignored)
        else:
            found.add(key, value, KEYS, (*KEYS, *NESTED))
    return Asked(keys=found.keys, **found.fields)


def _read_host_config(found: "_Found", key: str, value: object, ignored: Collection[str]) -> None:
    if not isinstance(value, dict):
        raise exceptions.InvalidRequest(f"{key} of the user data must be an object.")
    for inner, each in value.items():
        if inner not in ignored and each is not None:
            found.add(inner, each, HOST_CONFIG, HOST_CONFIG)


@dataclasses.dataclass
class _Found:
    """Fields of :class:`Asked` as they are found."""

    fields: dict[str, Any]
    keys: dict[str, str]

    def add(
        self,
        key: str,
        value: object,
        table: Mapping[str, tuple[str, Reader]],
        known: Collection[str],
    ) -> None:
        if key not in table:
            raise exceptions.InvalidRequest(_unknown(key, known))
        field, reader = table[key]
        try:
            read = reader(value)
        except ValueError as exc:
            raise exceptions.InvalidRequest(f"{key} of the user data must be {exc}.") from exc
        if field in _WITHOUT_EFFECT or read is None:
            return
        if field in self.fields:
            read = self._joined(field, key, read)
        self.fields[field] = read
        self.keys[field] = key

    def _joined(self, field: str, key: str, value: Any) -> Any:
        before = self.fields[field]
        if field in ("command", "entrypoint") or not isinstance(value, tuple | dict):
            if before != value:
                raise exceptions.InvalidRequest(
                    f"{self.keys[field]} and {key} of the user data say different things."
                )
            return value
        if isinstance(value, dict):
            return {**before, **value}
        return tuple(dict.fromkeys((*before, *value)))


def _unknown(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or [
        each for each in known if each.lower() == key.lower()
    ]
    hint = f"did you mean {near[0]}?" if near else "cloud-init's begin with #cloud-config."
    return f"{plain_data.shown(key)} is no parameter that user data can give; {hint}"
