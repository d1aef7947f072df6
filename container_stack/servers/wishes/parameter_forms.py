# SPDX-License-Identifier: Apache-2.0
"""Parameters of a container that may be written in several forms, as lists and as objects.

Readers as in :mod:`container_stack.servers.wishes.parameter_values`.
"""

from collections.abc import Mapping

from container_stack.servers.wishes import parameter_values as values

Volume = tuple[str, str, bool]


def exposed(value: object) -> tuple[str, ...]:
    """Ports: an object by port, or a list of those, or of lists of a number and a protocol."""
    if isinstance(value, dict):
        return tuple(values.port(each) for each in value)
    return tuple(
        values.port(
            "/".join(values.text(part) for part in each) if isinstance(each, list) else each
        )
        for each in values.items(value)
    )


def port_bindings(value: object) -> tuple[tuple[str, str], ...]:
    """Ports of the container, each with one of the host, or "" for any."""
    found = []
    for inner, outer in values.table(value).items():
        bindings = outer if isinstance(outer, list) else [outer]
        found += [(values.port(inner), _host_port(each)) for each in bindings]
    return tuple(found)


def _host_port(value: object) -> str:
    if not isinstance(value, dict):
        return values.port(value).partition("/")[0] if value else ""
    if set(value) - {"HostPort", "HostIp"} or value.get("HostIp"):
        raise ValueError('host ports, as [{"HostPort": "11022"}]')
    return _host_port(value.get("HostPort"))


def volumes(value: object) -> tuple[Volume, ...]:
    """Volumes: (source, target, read only), where a source of "" is a volume of their own.

    They are objects by path in the container, with nothing behind; by path on the host, with one
    in the container behind, or an object that has it as ``bind``; or texts as ``docker run -v``
    has them.
    """
    if isinstance(value, dict):
        return tuple(_volume(first, second) for first, second in value.items())
    return tuple(_bind(values.text(each)) for each in values.items(value))


def _volume(first: str, second: object) -> Volume:
    if not second:
        return _bind(first)
    if isinstance(second, str):
        return _bind(f"{first}:{second}")
    entry = values.table(second)
    if set(entry) - {"bind", "ro", "mode"} or "bind" not in entry:
        raise ValueError('volumes, as {"/on/host": {"bind": "/in/container", "ro": true}}')
    mode = _mode(values.text(entry.get("mode") or "rw"))
    read_only = mode or values.boolean(entry.get("ro") or False)
    return values.path(first), values.target(entry["bind"]), read_only


def _bind(text: str) -> Volume:
    parts = text.split(":")
    if len(parts) == 1:
        return "", values.target(parts[0]), False
    if len(parts) > 3:
        raise ValueError("volumes, as /on/host:/in/container:ro")
    return values.path(parts[0]), values.target(parts[1]), _mode((*parts, "rw")[2])


def _mode(text: str) -> bool:
    if text not in ("ro", "rw"):
        raise ValueError("volumes whose mode is ro or rw")
    return text == "ro"


def device(value: object) -> tuple[str, str, str]:
    """A device: on the host, in the container, and of r, w and m what may be done."""
    if isinstance(value, str):
        source, _, rest = value.partition(":")
        target, _, access = rest.partition(":")
        entry: Mapping[str, object] = {"PathOnHost": source, "PathInContainer": target or source}
        entry = {**entry, "CgroupPermissions": access or "rwm"}
    else:
        entry = values.table(value)
    if set(entry) - {"PathOnHost", "PathInContainer", "CgroupPermissions"}:
        raise ValueError("devices with PathOnHost, PathInContainer and CgroupPermissions")
    source = values.path(entry.get("PathOnHost") or "")
    target = values.path(entry.get("PathInContainer") or source)
    access = values.text(entry.get("CgroupPermissions") or "rwm")
    if not target.startswith("/dev/") or set(access) - set("rwm"):
        raise ValueError("devices below /dev, with permissions of r, w and m")
    return source, target, "".join(each for each in "rwm" if each in access)


def devices(value: object) -> tuple[tuple[str, str, str], ...]:
    return tuple(device(each) for each in values.items(value))


def restart(value: object) -> str:
    """A policy in one word, as "always" or "on-failure:5"; "no" is none."""
    entry = values.table(value) if not isinstance(value, str) else {"Name": value}
    if set(entry) - {"Name", "MaximumRetryCount"}:
        raise ValueError("a policy with Name and MaximumRetryCount")
    name, _, count = values.text(entry.get("Name") or "no").partition(":")
    retries = values.whole(entry.get("MaximumRetryCount") or count or "0")
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise ValueError("always, unless-stopped, on-failure or no")
    if retries and name != "on-failure":
        raise ValueError("on-failure, if there is a MaximumRetryCount")
    return f"{name}:{retries}" if retries else name


def lxc(value: object) -> str | None:
    """The host's name, which is all that is left of LXC's settings."""
    if isinstance(value, list):
        entries = [values.table(each) for each in value]
        pairs = {values.text(each.get("Key") or ""): each.get("Value") for each in entries}
    else:
        pairs = dict(values.table(value))
    if set(pairs) - {"lxc.utsname"}:
        raise ValueError("lxc.utsname alone: engines know no LXC any more")
    return values.host(pairs.get("lxc.utsname") or "")


def nothing(value: object) -> None:
    """What an engine's client fills in and no server can have."""
    if value not in ("", [], {}, False, "0", "false"):
        raise ValueError("nothing: it has no meaning for a server")
