# SPDX-License-Identifier: Apache-2.0
"""What the configuration file of the Open Storage daemon may say, beside drivers."""

import dataclasses
import os
import re
import socket
from collections.abc import Callable
from typing import Any

from container_stack import exceptions

FILE = "/etc/container-stack/osd.yaml"
STATE_DIR = "/var/lib/osd"
PLUGIN_DIR = "/run/docker/plugins"

#: Words that stand where a driver's name does, on the command line.
RESERVED = ("cluster", "completion", "driver", "help", "version", "top", "c", "d", "h", "v")

_DRIVER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """Something that the file may say.

    :param default: as the file would have it.
    :param read: makes a value of the text; raises ValueError with what is wrong.
    """

    name: str
    default: str
    help: str
    read: Callable[[str], Any] = str


def check_driver(name: str) -> str:
    """Return what is a driver's name.

    :raises InvalidRequest: it can't be one.
    """
    if not _DRIVER.fullmatch(name) or name in RESERVED:
        raise exceptions.InvalidRequest(
            f"{name[:40]!r} can't be a driver's name: use lower-case letters, digits, '_' and '-', "
            f"a letter first, at most 32, and none of {', '.join(RESERVED)}."
        )
    return name


def _path(text: str) -> str:
    if not os.path.isabs(text) or "\0" in text:
        raise ValueError("it must be an absolute path")
    return os.path.normpath(text)


def _flag(text: str) -> bool:
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError("it is true or false") from None


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ValueError(f"it is a number from {least:g} to {most:g}")
        return value

    return read


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"it is a whole number from {least} to {most}")
        return int(text)

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"it is one of {', '.join(words)}")
        return text

    return read


def _node(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", text):
        raise ValueError("use letters, digits, '_', '.', ':' and '-', at most 128")
    return text


OPTIONS: tuple[Option, ...] = (
    Option(
        "state_dir",
        STATE_DIR,
        "Directory of everything that the daemon keeps: its REST sockets ``driver/<driver>.sock`` "
        "and ``cluster/osd.sock``, mount points below ``mounts``, records of what is mounted, and "
        "what backends keep in files. It must be on a local disk. The filters of "
        "rootwrap must have been made for it: ``container-stack rootwrap install "
        "--driver osd --state-dir``.",
        _path,
    ),
    Option(
        "plugin_dir",
        PLUGIN_DIR,
        "Directory of the drivers' sockets for Docker, ``<driver>.sock``: where the engine looks.",
        _path,
    ),
    Option(
        "group",
        "",
        "Group that may use the REST sockets; they have mode 0660. Unset means the daemon's own "
        "group.",
    ),
    Option(
        "plugins",
        "true",
        "Serve Docker. False for a host where only the REST API and the command line are used.",
        _flag,
    ),
    Option(
        "docker_url",
        "",
        "The engine whose containers use the volumes; it is asked which of them live. Unset means "
        "unix:///var/run/docker.sock.",
    ),
    Option(
        "root_helper",
        "",
        "Command that starts the root helper. Unset means sudo with "
        "``container-stack-rootwrap-daemon`` and the installed rootwrap.conf, or as root that "
        "program itself.",
        lambda text: tuple(text.split()),
    ),
    Option(
        "registry",
        "",
        "Database that remembers volumes, as an URL of SQLAlchemy's. Unset means ``osd.sqlite`` in "
        "state_dir. Nodes of a cluster need one that they share: mysql+pymysql://... or "
        "postgresql+psycopg://...",
    ),
    Option(
        "interval",
        "60",
        "Seconds between two looks at schedules, usage, alerts and what failed before. Snapshots "
        "are taken at most that late.",
        _number(1, 3600),
    ),
    Option(
        "history_days",
        "30",
        "Days for which events, figures of usage and cleared alerts are kept.",
        _whole(1, 3650),
    ),
    Option(
        "threads",
        "8",
        "Requests that each socket serves at once; Mounts for Docker have as many more.",
        _whole(2, 256),
    ),
    Option(
        "log_level",
        "info",
        "What is logged to standard error: error, warning, info or debug.",
        _one_of("error", "warning", "info", "debug"),
    ),
)

CLUSTER: tuple[Option, ...] = (
    Option("clusterid", "osd", "Name of the cluster.", _node),
    Option(
        "nodeid",
        "",
        "This node's id, unique in the cluster, and the same after each start: volumes belong to "
        "it. Default: the host's name.",
        lambda text: _node(text or socket.gethostname()),
    ),
    Option("management_ip", "", "Address that other nodes and people are told."),
    Option("data_ip", "", "Address for data that other nodes and people are told."),
    Option(
        "coordination",
        "",
        "URL of tooz's back end that says which nodes live: etcd3+http://192.0.2.7:2379. Unset "
        "means that there is no other node.",
    ),
    Option(
        "lease",
        "30",
        "Seconds for which a node may use its volumes after it last proved that it lives. A dead "
        "node's volumes are free after that long. Shorter moves volumes sooner, and bears shorter "
        "pauses of a host or its network.",
        _number(10, 3600),
    ),
)

LISTEN: tuple[Option, ...] = (
    Option("address", "0.0.0.0", "Address to listen at."),  # noqa: S104 - TLS and a token
    Option("port", "9001", "Port to listen at.", _whole(0, 65535)),
    Option("cert", "", "File with the certificate, and those between it and its root.", _path),
    Option("key", "", "File with the certificate's key.", _path),
    Option(
        "token_file",
        "",
        "File whose first line, of at least 16 characters, is the token that clients send.",
        _path,
    ),
    Option(
        "readable",
        "false",
        "Show what the web page shows without the token, too: volumes with their labels, usage, "
        "nodes, events. For a network in which everybody may know that; changes always need it.",
        _flag,
    ),
)
