# SPDX-License-Identifier: Apache-2.0
"""Values of a container's parameters: what the Docker API and its Python client take, made plain.

Each reader gets a value as :mod:`container_stack.servers.wishes.plain_data` has it (never None),
and raises ``ValueError`` with what is wanted instead.
"""

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Source: capabilities(7), Linux 6.8.
CAPABILITIES = frozenset(
    (
        *("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF"),
        *("CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER"),
        *("FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN"),
        *("MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST"),
        *("NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG"),
        *("SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT"),
        *("SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG"),
        *("WAKE_ALARM"),
    )
)

_SIZE = re.compile(r"([0-9]{1,19})([kmgt]?)b?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_CPUS = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*", re.ASCII)
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII)
_NAME = re.compile(r"/?[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_PORT = re.compile(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?", re.ASCII)
#: The kernel's own bound on the names that uname tells.
_UNAME = 64


def text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("true or false")


def whole(value: object) -> int | None:
    """0 stands for no wish."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value) or int(value) < 0:
        raise ValueError("a whole number, at least 0")
    return int(value) or None


def size(value: object) -> int | None:
    """0 stands for no wish."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("bytes, or a number with k, m or g behind, at least 0")
    return int(match[1]) * _UNITS[match[2].lower()] or None


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[object], str | None]:
    def read(value: object) -> str | None:
        found = text(value)
        if found and not pattern.fullmatch(found):
            raise ValueError(wanted)
        return found or None

    return read


user = _matching(_USER, "a user's name or number, with :group if wanted")
name = _matching(_NAME, "a name of letters, digits, _, . and -")
mac = _matching(_MAC, "a MAC address in small letters, as 02:42:ac:11:00:02")


def host(value: object) -> str | None:
    """A name that a server can call itself."""
    found = text(value)
    if found and (len(found) > _UNAME or not _HOST.fullmatch(found)):
        raise ValueError(f"a host's name, at most {_UNAME} characters")
    return found or None


def cpuset(value: object) -> str | None:
    found = text(value).replace(" ", "")
    if not found:
        return None
    if not _CPUS.fullmatch(found) or any(
        int(low) > int(high or low)
        for low, _, high in (each.partition("-") for each in found.split(","))
    ):
        raise ValueError("numbers of CPUs, as 0-3,7")
    return found


def path(value: object) -> str:
    """An absolute path without detours, so that there is one way to write it."""
    found = text(value)
    parts = found.split("/")
    if not found.startswith("/") or ":" in found or "\n" in found or len(found) > 4095:
        raise ValueError("an absolute path without a colon")
    if found != "/" and any(part in ("", ".", "..") for part in parts[1:]):
        raise ValueError("a path without //, . or .., and without / at its end")
    return found


def optional_path(value: object) -> str | None:
    return path(value) if text(value) else None


def target(value: object) -> str:
    """A path in a server that something may be mounted on."""
    found = path(value)
    if found == "/" or found.split("/")[1] in ("proc", "sys", "dev"):
        raise ValueError("a path in the container, other than / and those below /proc, /sys, /dev")
    return found


def items(value: object) -> list[object]:
    """A list without empty texts, or one text."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list):
        raise ValueError("a list")
    return [each for each in found if each not in ("", None)]


def table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object")
    return value


def list_of(read: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    """Return a reader of lists; of what is in them, each once and in order."""
    return lambda value: tuple(dict.fromkeys(read(each) for each in items(value)))


def words(value: object) -> tuple[str, ...] | None:
    """A command as the API has it: a list, or a text that is its only word."""
    if isinstance(value, list):
        return tuple(text(each) for each in value) or None
    return (text(value),) if text(value) else None


def command_line(value: object) -> tuple[str, ...] | None:
    """A command as the Python client has it: a list, or a text that is split as a shell does."""
    if isinstance(value, list):
        return words(value)
    try:
        return tuple(shlex.split(text(value))) or None
    except ValueError as exc:
        raise ValueError("a list of words, or a text with its quotes closed") from exc


def environment(value: object) -> Mapping[str, str]:
    """Variables by name: an object, or a list of NAME=value."""
    if isinstance(value, dict):
        pairs: Iterable[tuple[object, object]] = value.items()
    else:
        pairs = (_assignment(text(each)) for each in items(value))
    found = {}
    for variable, content in pairs:
        if not isinstance(variable, str) or not variable or "=" in variable:
            raise ValueError("variables with names, as NAME=value")
        found[variable] = "" if content is None else text(content)
    return found


def _assignment(entry: str) -> tuple[str, str]:
    variable, equals, content = entry.partition("=")
    return (variable if equals else "", content)


def address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(text(value)))
    except ValueError as exc:
        raise ValueError("IP addresses") from exc


def domain(value: object) -> str:
    found = text(value)
    if not _HOST.fullmatch(found.removesuffix(".")):
        raise ValueError("names of domains")
    return found


def extra_host(value: object) -> tuple[str, str]:
    known, _, where = text(value).partition(":")
    if not _HOST.fullmatch(known):
        raise ValueError("lines as name:address")
    return known, address(where.removeprefix("[").removesuffix("]"))


def link(value: object) -> tuple[str, str]:
    wanted, _, alias = text(value).removeprefix("/").partition(":")
    if not _NAME.fullmatch(wanted) or not _HOST.fullmatch(alias or wanted):
        raise ValueError("names as name:alias")
    return wanted, alias or wanted


def volumes_from(value: object) -> tuple[str, bool]:
    wanted, _, mode = text(value).partition(":")
    if not _NAME.fullmatch(wanted) or mode not in ("", "ro", "rw"):
        raise ValueError("names of containers, with :ro behind if wanted")
    return wanted.removeprefix("/"), mode == "ro"


def capability(value: object) -> str:
    found = text(value).upper().removeprefix("CAP_")
    if found != "ALL" and found not in CAPABILITIES:
        raise ValueError("names of capabilities, as NET_ADMIN")
    return found


def port(value: object) -> str:
    """A port of the container with its protocol, as "22/tcp"."""
    match = _PORT.fullmatch(text(value))
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError("ports, as 22/tcp")
    return f"{int(match[1])}/{match[2] or 'tcp'}"
