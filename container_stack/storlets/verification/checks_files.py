# SPDX-License-Identifier: Apache-2.0
"""Checks 5 to 8: whether the files of an image are what the gateway and the agent count on.

The gateway runs ``python3 -m storlets.agent.daemon_factory``, found by the image's PATH, with a
PYTHONPATH of its own. That program runs /usr/bin/python3 or /usr/bin/java for each storlet, with
no environment but PYTHONPATH or CLASSPATH, and the program ``logger``, found by PATH, for what
they print. Source: storlets/agent/daemon_factory/server.py of storlets 18.
"""

import dataclasses
import importlib.machinery
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from container_stack.host.image_archive import tar
from container_stack.storlets.image import tree
from container_stack.storlets.verification import base as bases
from container_stack.storlets.verification import checks, checks_config, native, report

#: What the engine takes where an image sets no PATH.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Variables that move Python's own library away.
_FATAL = ("PYTHONHOME", "PYTHONPLATLIBDIR")
#: A module in the working directory comes before the library's, and before the agent.
_SUFFIXES = (".py", ".pyc", ".so", "/__init__.py", "/__init__.pyc")
_SHADOWING = sorted({*sys.stdlib_module_names, "storlets"} - {*sys.builtin_module_names})
#: Where distributions have the C library; the dynamic linker looks further.
_LIBC = tuple(
    f"{directory}/{triplet}libc.so.6"
    for directory in ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
    for triplet in ("", "x86_64-linux-gnu/", "aarch64-linux-gnu/")
)
_BANNER = re.compile(rb"GNU C Library [^\n]{0,200}release version (\d{1,4}\.\d{1,4})")
#: Bytes; Debian's has 2 MB.
_LIBC_SIZE = 32 * 1024**2


def environment(config: Mapping[str, Any], base: bases.Base, files: tree.Tree) -> report.Finding:
    """Check 5: Python is found, and finds its library."""
    variables = _variables(config)
    fatal = [name for name in _FATAL if variables.get(name)]
    if fatal:
        return checks.failed(
            checks.ENVIRONMENT,
            f"ENV sets {', '.join(fatal)}: no python3 but one would find its library.",
            f"Remove ENV {', '.join(fatal)} from the Dockerfile and build again.",
        )
    if _found(variables, "python3", files) is None:
        return checks.failed(
            checks.ENVIRONMENT,
            f"There is no python3 that can be run in PATH={checks.quoted([_path(variables)])}.",
            "Leave PATH as the base image has it, or put /usr/bin into it, and keep python3.",
        )
    own = _variables({"Env": list(base.environment)})
    lost = sorted(name for name in variables if variables[name] != own.get(name) and name != "PATH")
    if lost:
        return checks.warning(
            checks.ENVIRONMENT,
            f"ENV sets {checks.quoted(lost)}, which no storlet will see: the runtime starts them "
            "with PYTHONPATH or CLASSPATH alone, of its own.",
            "Let the storlet itself set what it needs.",
        )
    return checks.passed(checks.ENVIRONMENT, "python3 is in PATH.")


def modules(config: Mapping[str, Any], files: tree.Tree) -> report.Finding:
    """Check 6: nothing in the working directory is imported instead of Python's own modules."""
    directory = posixpath.join("/", str(config.get("WorkingDir") or "/"))
    if any(checks_config.within(directory, mount) for mount in checks_config.MOUNTS):
        return checks.failed(
            checks.MODULES,
            f"WORKDIR is {checks.quoted([directory])}, where the gateway mounts what is others'.",
            "Set WORKDIR / in the Dockerfile.",
        )
    found = [path for path in _shadows(directory) if _is_file(files, path)]
    if found:
        return checks.failed(
            checks.MODULES,
            f"{checks.quoted(found)} would be imported instead of Python's own.",
            "Move it out of the image's working directory, or set another WORKDIR.",
        )
    return checks.passed(checks.MODULES, f"Nothing in {checks.quoted([directory])} is in the way.")


def _shadows(directory: str) -> Iterator[str]:
    suffixes = (*_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)
    for name in _SHADOWING:
        for suffix in dict.fromkeys(suffixes):
            yield posixpath.join(directory, name + suffix)


def logger(config: Mapping[str, Any], files: tree.Tree) -> report.Finding:
    """Check 7: what storlets print can be logged, without which none is started."""
    path = _found(_variables(config), "logger", files)
    if path is None:
        return checks.failed(
            checks.LOGGER,
            "The program logger is missing; without it the runtime starts no storlet.",
            "Install it, in Debian by the package bsdutils, and leave PATH as it is.",
        )
    return checks.passed(checks.LOGGER, f"It is {checks.quoted([path])}.")


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What storlets of the account need beside python3.

    :param python: a version, as 3.11.
    """

    python: str | None = None
    java: bool = False

    @property
    def paths(self) -> list[str]:
        """Where the agent looks for interpreters."""
        paths = ["/usr/bin/python3"]
        if self.python and self.python != "3":
            paths.append(f"/usr/bin/python{self.python}")
        return [*paths, "/usr/bin/java"] if self.java else paths


def programs(files: tree.Tree, host: native.Native, wanted: Wanted, trusted: int) -> report.Finding:
    """Check 8: interpreters are where the agent looks, and load the host's library.

    Programs that give their user another's rights are told, too: who runs as root in a sandbox
    may leave such a program, or a device, in a directory of the host's.

    :param trusted: layers of the base, which may have such programs.
    """
    missing = [path for path in wanted.paths if not _is_program(files, path)]
    if missing:
        return checks.failed(
            checks.PROGRAMS,
            f"{', '.join(missing)} isn't there, or can't be run.",
            "Install the distribution's own package, or link it there.",
        )
    library = _glibc(files, host)
    privileged = sorted(
        path for path, entry in files.walk() if entry.privileged and entry.layer >= trusted
    )
    if privileged and library.state is report.State.PASSED:
        return checks.warning(
            checks.PROGRAMS,
            f"It adds programs that run with another user's rights: {checks.quoted(privileged)}.",
            "Take their setuid, setgid and capabilities away, unless a storlet needs them.",
        )
    return library


def _glibc(files: tree.Tree, host: native.Native) -> report.Finding:
    found = next(filter(None, (_version(files, path) for path in _LIBC)), None)
    if found is None:
        return checks.failed(
            checks.PROGRAMS,
            "There is no GNU C library in it, which storlets' library needs.",
            "Build on the operator's base image; images with musl, as Alpine's, can't be used.",
        )
    text = f"glibc {_text(found)}"
    if found < host.needed:
        return checks.failed(
            checks.PROGRAMS,
            f"It has {text}; storlets' library on the nodes needs {_text(host.needed)}.",
            "Build on a newer release of the distribution.",
        )
    if host.glibc and found < host.glibc:
        return checks.warning(
            checks.PROGRAMS,
            f"It has {text}, older than the nodes' {_text(host.glibc)}.",
            "Build on a newer release before storlets' library is built anew on the nodes.",
        )
    return checks.passed(checks.PROGRAMS, f"{text}, and all interpreters are in place.")


def _version(files: tree.Tree, path: str) -> native.Version | None:
    if not _is_file(files, path):
        return None
    match = _BANNER.search(files.read(path, _LIBC_SIZE))
    return native.parsed(match[1].decode()) if match else None


def _text(version: native.Version) -> str:
    return ".".join(map(str, version))


def _variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of ENV; the last of a name counts, as for the engine."""
    pairs = (each.partition("=") for each in bases.words(config, "Env"))
    return {name: value for name, _, value in pairs}


def _path(variables: Mapping[str, str]) -> str:
    return variables.get("PATH", PATH)


def _found(variables: Mapping[str, str], name: str, files: tree.Tree) -> str | None:
    """Return where a program is found, if it is.

    Relative parts of PATH are left out: what they lead to, the working directory decides.
    """
    for directory in _path(variables).split(":")[:256]:
        path = posixpath.join(directory, name)
        if directory.startswith("/") and _is_program(files, path):
            return path
    return None


def _is_file(files: tree.Tree, path: str) -> bool:
    entry = files.find(path)
    return entry is not None and entry.kind is tar.Kind.FILE


def _is_program(files: tree.Tree, path: str) -> bool:
    entry = files.find(path)
    return entry is not None and entry.executable
