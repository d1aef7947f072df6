# SPDX-License-Identifier: Apache-2.0
"""The storlets that run in a sandbox, seen from outside: by the command lines of its processes.

Any process may call itself what it likes. A false one only makes its own account's next sandbox
start a storlet that nobody asked for, so their number and names are all that is checked. The
command lines come from storlets 18: storlets/agent/daemon_factory/server.py.
"""

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

from container_stack.host import containers
from container_stack.storlets import gateway
from container_stack.storlets.node import probe, sandbox

#: Columns of ps, with the processes' environment behind their arguments, where Java's paths are.
COLUMNS = "pid,ppid,args"
#: More storlets than that are not started in advance.
MOST = 64

_NAME = r"(?P<name>[\w.$-]{1,200})"
_REST = rf"{_NAME} (?P<pipe>\S+) (?P<level>[A-Z]+) (?P<pool>\d{{1,4}}) \S+"
_PYTHON = re.compile(r"/usr/bin/python(?P<version>\d[\d.]*) -m storlets\.agent\.daemon " + _REST)
_JAVA = re.compile(r"/usr/bin/java org\.openstack\.storlet\.daemon\.SDaemon " + _REST)
_CLASSPATH = re.compile(
    rf"(?<=\s)CLASSPATH=\S*{re.escape(gateway.NATIVE)}/java/:(?P<path>\S{{1,4096}})"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """A storlet that a sandbox keeps running.

    :param pid: of its process; another one under the same name was started later.
    :param path: Java's class path of the storlet; Python needs none.
    :param version: of the language, as the account wants it.
    """

    name: str
    pid: int
    language: str
    path: str
    level: str
    pool: int
    version: str | None = None

    def order(self) -> dict[str, Any]:
        """Return what a sandbox must be told to run the same."""
        order = {
            "daemon_language": self.language,
            "storlet_path": self.path,
            "storlet_name": self.name,
            "uds_path": posixpath.join(sandbox.CHANNELS, self.name),
            "log_level": self.level,
            "pool_size": self.pool,
        }
        return order | ({"daemon_language_version": self.version} if self.version else {})


def of_probe(main: str) -> Daemon:
    """Return the daemon that a probe needs."""
    return Daemon(main, 0, "python", "", "DEBUG", 1)


def running(engine: containers.Engine, container: str) -> Mapping[str, Daemon]:
    """Return the storlets that a running sandbox has started, by name."""
    return found(engine.processes(container, COLUMNS, environment=True))


def found(lines: Iterable[str]) -> Mapping[str, Daemon]:
    """Return the storlets among processes.

    A storlet's work is done by children of its daemon, which look like that.

    :param lines: PID, PID of the parent, arguments and environment.
    """
    all_daemons: dict[int, tuple[int, Daemon]] = {}
    for line in lines:
        numbers = line.split(None, 2)
        if len(numbers) == 3 and numbers[0].isdigit() and numbers[1].isdigit():
            daemon = _parsed(int(numbers[0]), numbers[2])
            if daemon and not probe.is_name(daemon.name):
                all_daemons[daemon.pid] = (int(numbers[1]), daemon)
    first = [each for parent, each in all_daemons.values() if parent not in all_daemons]
    return {each.name: each for each in first[:MOST]}


def _parsed(pid: int, command: str) -> Daemon | None:
    path, language, version = "", "python", None
    match = _PYTHON.match(command)
    if match:
        version = None if match["version"] == "3" else match["version"]
    else:
        match = _JAVA.match(command)
        classes = _CLASSPATH.search(command)
        if not match or not classes:
            return None
        path, language = classes["path"], "java"
    if match["pipe"] != posixpath.join(sandbox.CHANNELS, match["name"]):
        return None
    return Daemon(match["name"], pid, language, path, match["level"], int(match["pool"]), version)
