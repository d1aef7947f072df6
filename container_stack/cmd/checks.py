# SPDX-License-Identifier: Apache-2.0
"""What ``container-stack host check`` looks at for each driver, and what follows from it."""

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from container_stack import exceptions, plugins
from container_stack.cmd import rootwrap
from container_stack.host import abilities, containers, images
from container_stack.host.abilities import Finding, judge
from container_stack.rootwrap import commands, config, executor
from container_stack.shares import assembly, image

#: The engine's API of Docker 20.10.
API = (1, 41)
#: Debian packages that each storage backend and file system needs.
STORAGE_PACKAGES = {"loop": "mount", "lvm": "lvm2"}
FILESYSTEM_PACKAGES = {"xfs": "xfsprogs", "ext4": "e2fsprogs", "btrfs": "btrfs-progs"}
ALWAYS = ("mount", "util-linux")
#: What share servers with NFS need of the engine, and those without don't.
SECCOMP, HANDLES = "engine: seccomp profiles", "engine: containers in the host's user namespace"


def manila(settings: assembly.Settings) -> list[Finding]:
    """Return all that the Manila driver needs or could use, then what it can do with it."""
    return _shares("manila", settings, _importable("manila"))


def shares(settings: assembly.Settings) -> list[Finding]:
    """Return the same for a program of the operator's own, which needs no Manila."""
    return _shares("shares", settings)


#: What to look at for each driver, and for programs that use the core without one.
DRIVERS: Mapping[str, Callable[[assembly.Settings], list[Finding]]] = {
    "manila": manila,
    "shares": shares,
}


def _shares(name: str, settings: assembly.Settings, *first: Finding) -> list[Finding]:
    findings = [
        *first,
        *engine(settings),
        *nfs(settings),
        samba_image(settings),
        *root_helper("manila", settings),
        *_programs("manila", settings),
        *_kernel(settings),
        abilities.directory(settings.state_dir),
        abilities.propagation(settings.state_dir),
        abilities.space(settings.state_dir),
        abilities.reflink(settings.state_dir),
    ]
    if not _failed(findings):
        findings.append(_pool(settings))
    return [*findings, *_abilities(name, settings, findings)]


def _failed(findings: Sequence[Finding]) -> list[str]:
    return [each.subject for each in findings if each.level == abilities.Level.FAILURE]


def _importable(driver: str) -> Finding:
    fix = f"pip install 'container-stack[{driver}]'"
    try:
        plugins.load(plugins.DRIVERS, driver)
    except exceptions.ContainerStackError as exc:
        return judge(f"driver {driver}", False, str(exc), fix=fix)
    return judge(f"driver {driver}", True, "can be imported")


# The engine --------------------------------------------------------------------------------


def engine(settings: assembly.Settings) -> Iterator[Finding]:
    """Tell whether the engine answers, is new enough, and admits nobody else."""
    subject = f"engine at {settings.docker_url}"
    path = settings.docker_url.removeprefix("unix://")
    if path.startswith("/") and os.path.exists(path):
        yield _socket(path)
    fix = "systemctl start docker" if shutil.which("dockerd") else "apt-get install docker.io"
    if path.startswith("/") and os.path.exists(path) and not os.access(path, os.W_OK):
        fix = f"usermod -aG docker {abilities.user()}"
    try:
        version = containers.Engine(settings.docker_url, tls=settings.tls, timeout=10).version()
    except exceptions.ContainerStackError as exc:
        yield judge(subject, False, str(exc), fix=fix)
        return
    api = tuple(int(part) for part in version["ApiVersion"].split("."))
    yield judge(
        subject,
        api >= API,
        f"version {version['Version']}, API {version['ApiVersion']}",
        fix="apt-get install docker.io",
    )


def nfs(settings: assembly.Settings) -> list[Finding]:
    """Tell whether the engine can run share servers that speak NFS."""
    try:
        info = containers.Engine(settings.docker_url, tls=settings.tls, timeout=10).info()
    except exceptions.ContainerStackError:
        return []  # which :func:`engine` tells
    return handles(info.get("SecurityOptions") or (), needed="NFS" in settings.protocols)


def handles(security: Iterable[str], *, needed: bool) -> list[Finding]:
    """Tell by the engine's SecurityOptions whether Ganesha may name and open files by handle."""
    names = {word.removeprefix("name=") for each in security for word in each.split(",")}
    apart = sorted(names & {"userns", "rootless"})
    seccomp = "seccomp" in names
    # The kernel asks for CAP_DAC_READ_SEARCH on the host: open_by_handle_at(2).
    handle = f"not with {', '.join(apart)}: no NFS there" if apart else "yes"
    return [
        judge(SECCOMP, seccomp, "yes" if seccomp else "refused: no NFS without", needed=needed),
        judge(HANDLES, not apart, handle, needed=needed),
    ]


def _socket(path: str) -> Finding:
    mode = os.stat(path).st_mode
    return judge(
        f"socket {path}",
        not mode & stat.S_IWOTH,
        f"mode {stat.S_IMODE(mode):04o}; who may write there is as good as root",
        fix=f"chmod o-w {path}",
        needed=False,
    )


def samba_image(settings: assembly.Settings) -> Finding:
    """Tell whether the engine has the share servers' image, of this version."""
    subject = f"image {settings.image}"
    fix = "container-stack image build samba"
    if settings.image != image.REFERENCE:
        fix += f" --tag {settings.image}"
    try:
        found = images.Images(containers.Engine(settings.docker_url, tls=settings.tls)).find(
            settings.image
        )
    except exceptions.ContainerStackError:
        return judge(subject, False, "unknown: the engine doesn't answer", fix=fix)
    if found is None:
        return judge(subject, False, "missing", fix=fix)
    version = found.labels.get("container_stack.image.version", "none")
    good = version == str(image.VERSION)
    detail = f"version {version}" if good else f"version {version}, not {image.VERSION}"
    return judge(subject, good, detail, fix=fix)


# The root helper ---------------------------------------------------------------------------


def root_helper(driver: str, settings: assembly.Settings) -> Iterator[Finding]:
    """Tell whether the root helper is allowed, safe, current, and starts."""
    words = tuple(shlex.split(settings.root_helper or "")) or executor.default_helper()
    install = f"container-stack rootwrap install --driver {driver}"
    if os.path.dirname(words[-1]) != os.path.dirname(executor.CONFIG):
        install += f" --directory {os.path.dirname(words[-1])}"
    if settings.state_dir != commands.STATE_DIR:
        install += f" --state-dir {settings.state_dir}"
    if os.geteuid() != 0:
        install += f" --user {abilities.user()}"
    if words[0] == "sudo":
        yield _sudo(words, install)
    yield from _filters(driver, Path(words[-1]), settings.state_dir, install)
    if os.path.exists(words[-1]):
        yield _starts(words, settings.state_dir, install)


def _sudo(words: Sequence[str], install: str) -> Finding:
    if not shutil.which("sudo"):
        return judge("sudo", False, "not installed", fix="apt-get install sudo")
    rest = [word for word in words[1:] if not word.startswith("-")]
    asked = subprocess.run(["sudo", "-n", "-l", *rest], capture_output=True, text=True, check=False)
    said = asked.stderr.strip().splitlines()
    detail = f"lets {abilities.user()} run {' '.join(rest)}"
    return judge("sudo", not asked.returncode, detail if not said else said[-1], fix=install)


def _filters(driver: str, conf: Path, state_dir: str, install: str) -> Iterator[Finding]:
    file = conf.parent / "rootwrap.d" / f"{driver}.filters"
    subject = f"filters {file}"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as exc:
        yield judge(subject, False, exc.strerror or str(exc), fix=install)
        return
    current = text == commands.filters(driver, state_dir, rootwrap.scripts())
    detail = f"for {state_dir}, of this version"
    yield judge(subject, current, detail if current else f"not {detail}", fix=install)
    loose = [str(path) for path in (conf, conf.parent, file, file.parent) if _loose(path)]
    yield judge(
        f"owner of {conf.parent}",
        not loose,
        f"who isn't root can write {', '.join(loose)}" if loose else "only root can write there",
        fix=f"chown -R root:root {conf.parent} && chmod -R go-w {conf.parent}",
        needed=False,
    )


def _loose(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _starts(words: Sequence[str], state_dir: str, install: str) -> Finding:
    """Let the root helper run a command that can only fail, for want of its file."""
    subject = "root helper"
    runner = executor.Executor(words, state_dir=state_dir, short=1, long=1)
    try:
        runner.run(commands.fs.THAW, path=f"{state_dir}/mounts/host-check")
    except exceptions.CommandFailed:
        return judge(subject, True, shlex.join(words))
    except exceptions.ContainerStackError as exc:
        return judge(subject, False, str(exc), fix=install)
    finally:
        runner.close()
    return judge(subject, True, shlex.join(words))


# The host ----------------------------------------------------------------------------------


def _programs(driver: str, settings: assembly.Settings) -> list[Finding]:
    names = [each.program for each in commands.DRIVERS[driver] if not (each.inside or each.own)]
    names += commands.copies.PROGRAMS if driver == "manila" else ()
    needed = {*ALWAYS, FILESYSTEM_PACKAGES.get(settings.filesystem, "")}
    needed.add(STORAGE_PACKAGES.get(settings.storage, ""))
    if settings.linux_bridge or settings.ovs_bridge:
        needed.add("iproute2")
    if settings.ovs_bridge:
        needed.add("openvswitch-switch")
    return abilities.programs(names, config.EXEC_DIRS, needed)


def _kernel(settings: assembly.Settings) -> Iterator[Finding]:
    needed = {settings.filesystem}
    needed |= {"loop": {"loop devices"}, "lvm": {"device-mapper"}}.get(settings.storage, set())
    if settings.ovs_bridge:
        needed |= {"veth", "openvswitch"}
    else:
        needed |= {"veth", "bridge"}
    for feature in abilities.FEATURES.values():
        yield abilities.kernel(feature, needed=feature.name in needed)
    yield abilities.ext4_online_grow(needed=settings.filesystem == "ext4")


def _pool(settings: assembly.Settings) -> Finding:
    """Ask the storage backend itself; only when the rest is as it should be."""
    subject = f"pool of {settings.storage} storage"
    try:
        capacity = assembly.open_service(settings).capacity()
    except exceptions.ContainerStackError as exc:
        return judge(subject, False, str(exc))
    free, total = capacity.free / abilities.GIB, capacity.total / abilities.GIB
    return judge(subject, capacity.free > 0, f"{free:.1f} of {total:.1f} GiB free")


def _abilities(
    name: str, settings: assembly.Settings, findings: Sequence[Finding]
) -> Iterator[Finding]:
    """Say what can be done here, with the given settings and with others."""
    failed = _failed(findings)
    detail = f"not before this is cured: {', '.join(failed)}" if failed else "yes"
    spoken = " and ".join(settings.protocols)
    yield judge(f"{name}: serve {spoken} shares as configured", not failed, detail)
    lacking = {each.subject for each in findings if each.level != abilities.Level.OK}
    needs = {**_NEEDS, "share blocks in loop snapshots": (f"reflinks below {settings.state_dir}",)}
    for what, subjects in needs.items():
        missing = [subject for subject in subjects if subject in lacking]
        detail = f"not here, for want of {', '.join(missing)}" if missing else "yes"
        yield judge(f"{name}: {what}", not missing, detail, needed=False)


#: Ability to the subjects of the findings that it depends on.
_NEEDS: Mapping[str, Sequence[str]] = {
    "serve NFS shares": (SECCOMP, HANDLES),
    "keep shares in files (loop)": ("kernel: loop devices", "programs of mount"),
    "keep shares in a volume group (lvm)": ("kernel: device-mapper", "programs of lvm2"),
    "use xfs": ("kernel: xfs", "programs of xfsprogs"),
    "use ext4": ("kernel: ext4", "programs of e2fsprogs", "ext4 grows while in use"),
    "use btrfs": ("kernel: btrfs", "programs of btrfs-progs"),
    "make networks of the engine's": ("kernel: bridge", "kernel: veth"),
    "plug into a Linux bridge": ("kernel: bridge", "kernel: veth", "programs of iproute2"),
    "plug into Open vSwitch": (
        "kernel: openvswitch",
        "kernel: veth",
        "programs of iproute2",
        "programs of openvswitch-switch",
    ),
}
