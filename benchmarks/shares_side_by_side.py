# SPDX-License-Identifier: Apache-2.0
"""Our driver and Manila's own container driver, in turn, on the same volume group.

It needs device-mapper, LVM, an engine, and Open vSwitch, and nothing else on the machine that uses
them. A guest has all of it, but for two packages::

    UML_GUEST_MEMORY=2G UML_GUEST_PACKAGES="docker.io net-tools" \\
        tools/uml-guest.sh python -m benchmarks shares_side_by_side

Both drivers have one share server, from the same image, with ext4, and are called as Manila's share
manager calls them: one share's life, which is create, rule, extend, delete; and twelve such lives
at once. As this runs as root, Manila's own driver is spared sudo and rootwrap for each of its
commands, and ours goes through its rootwrap daemons all the same.

What Manila's own driver needs beyond its documentation, to run at all:

* MAC addresses, which Manila's standalone network plug-in doesn't give; with None it fails and
  leaves a container behind.
* Open vSwitch with a bridge ``br-int``, without Neutron, too.
* ``bash`` and ``ip`` in the image, which it calls in the container. Ours has no bash, so its shell
  gets that name.
* LVM's ``wipe_signatures_when_zeroing_new_lvs = 0``: without, ``lvcreate`` finds what an earlier
  share left in the same place, asks whether it may wipe that, and fails, as nobody answers.
* ``/shares`` on a file system of the host's, as it bind-mounts it into all its containers.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from benchmarks import harness, manila_driver
from container_stack.host import containers, images
from container_stack.rootwrap import config
from container_stack.shares import image

AT_ONCE, ROUNDS = 12, 5
GROUP = "cstest-side"
_SIZE = 40 * 1024**3
_STEPS = ("create", "rule", "extend", "delete")
_LVM = "allocation { wipe_signatures_when_zeroing_new_lvs = 0 }\n"
_BASH = '#!/usr/bin/busybox sh\nexec /usr/bin/busybox sh "$@"\n'


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    rounds, together = (2, 4) if harness.smoke else (ROUNDS, AT_ONCE)
    with tempfile.TemporaryDirectory(prefix="cstest-side-") as name, contextlib.ExitStack() as undo:
        directory = Path(name)
        undo.enter_context(_volume_group(directory))
        undo.enter_context(_switch())
        undo.enter_context(_engine(directory))
        undo.enter_context(_image(directory))
        both = {
            "ours": undo.enter_context(_ours(directory)),
            "Manila's own": undo.enter_context(_its_own(directory)),
        }
        one: dict[str, list[list[float]]] = {each: [] for each in both}
        many: dict[str, list[float]] = {each: [] for each in both}
        for turn in range(rounds):
            for who, (driver, server) in both.items():
                one[who].append(_life(driver, server, f"one-{turn}"))
                many[who].append(_at_once(driver, server, together))
                print(f"     {who}: {sum(one[who][-1]):.2f} s, {many[who][-1]:.2f} s", flush=True)
    total = {}
    # Without the first round, in which all is cold.
    for who in both:
        steps = [statistics.median(times) for times in zip(*one[who][1:], strict=True)]
        at_once = statistics.median(many[who][1:])
        total[who] = sum(steps) + at_once
        parts = ", ".join(f"{s} {harness.ms(t)}" for s, t in zip(_STEPS, steps, strict=True))
        print(f"     {who}: {parts}; {together} at once {at_once:.2f} s", flush=True)
    detail = ", ".join(f"{who} {seconds:.2f} s" for who, seconds in total.items())
    ratio = total["Manila's own"] / total["ours"]
    yield harness.Claim("Manila's own container driver / ours", ratio, 3.0, False, detail)


def _life(driver: Any, server: manila_driver.Model, name: str) -> list[float]:
    """Have one share from its beginning to its end; return how long each step took."""
    share = manila_driver.share(name, server)
    steps: list[Callable[[], object]] = [
        lambda: manila_driver.create(driver, share),
        lambda: manila_driver.admit(driver, share),
        lambda: driver.extend_share(share, 2, share_server=server),
        lambda: driver.delete_share(None, share, share_server=server),
    ]
    return [harness.timed(step) for step in steps]


def _at_once(driver: Any, server: manila_driver.Model, count: int) -> float:
    """Have so many shares live at once; return the seconds until the last one ended."""

    def live(number: int) -> None:
        _life(driver, server, f"many-{number}")

    with futures.ThreadPoolExecutor(count) as pool:
        return harness.timed(lambda: list(pool.map(live, range(count))))


@contextlib.contextmanager
def _ours(directory: Path) -> Iterator[tuple[Any, manila_driver.Model]]:
    state = directory / "state"
    state.mkdir()
    config.install(directory / "rootwrap", ["manila"], str(state), os.path.dirname(sys.executable))
    options = {
        "driver_handles_share_servers": True,
        "container_stack_state_dir": state,
        "container_stack_root_helper": f"{sys.executable} -m container_stack.rootwrap.cmd "
        f"{directory}/rootwrap/rootwrap.conf",
        "container_stack_storage": "lvm",
        "container_stack_filesystem": "ext4",
        "container_volume_group": GROUP,
    }
    driver = manila_driver.made(manila_driver.OURS, "ours", options, directory)
    try:
        server = manila_driver.server(driver, "ours", "10.251.93.0/24", 10)
        yield driver, server
        driver._teardown_server(server["backend_details"])
    finally:
        _run("umount", str(state / "mounts"))


@contextlib.contextmanager
def _its_own(directory: Path) -> Iterator[tuple[Any, manila_driver.Model]]:
    shares = directory / "shares"
    shares.mkdir()
    options = {
        "driver_handles_share_servers": True,
        "container_image_name": "cstest-side",
        "container_volume_group": GROUP,
        "container_volume_mount_path": shares,
        # Else it wants Neutron's; it isn't asked for anything.
        "network_api_class": "manila.network.standalone_network_plugin.StandaloneNetworkPlugin",
        "standalone_network_plugin_gateway": "10.251.94.1",
        "standalone_network_plugin_mask": 24,
    }
    driver = manila_driver.made(manila_driver.ITS_OWN, "own", options, directory)
    try:
        yield driver, manila_driver.server(driver, "own", "10.251.94.0/24", 10)
    finally:
        # Its own way to delete a server only stops it.
        _run("docker", "rm", "--force", "manila_own")
        left = _run("docker", "network", "ls", "--quiet", "--filter=name=manila-docker-network")
        for network in left.split():
            _run("docker", "network", "rm", network)


@contextlib.contextmanager
def _image(directory: Path) -> Iterator[None]:
    """Lend the share servers' image, and the same with a bash for Manila's own driver."""
    found = images.Images(containers.Engine())
    if found.find(image.REFERENCE) is None:
        if "UML_GUEST" in os.environ:
            _import(found, directory)
        else:
            image.build(found)
    bash = directory / "bash"
    bash.write_text(_BASH)
    bash.chmod(0o755)
    _run("docker", "create", "--name=cstest-side", image.REFERENCE)
    try:
        _run("docker", "cp", str(bash), "cstest-side:/usr/bin/bash")
        _run("docker", "commit", "cstest-side", "cstest-side")
        yield
    finally:
        _run("docker", "rm", "cstest-side")
        subprocess.run(["docker", "rmi", "cstest-side"], capture_output=True, check=False)


def _import(found: images.Images, directory: Path) -> None:
    """Make the image from what the guest's root has: it has no network."""
    packages, above, work = (directory / name for name in ("packages", "above", "work"))
    for each in (packages, above, work):
        each.mkdir()
    # Packages are taken from a root of their own, with links that stay in it.
    layers = f"lowerdir=/,upperdir={above},workdir={work}"
    _run("mount", "-t", "overlay", "-o", layers, "packages", str(packages))
    try:
        for loader in packages.glob("usr/lib64/ld-linux*"):
            target = os.readlink(loader)
            loader.unlink()
            loader.symlink_to(f"..{target}")
        with tempfile.TemporaryFile(dir=directory) as archive:
            image.write(archive, packages)
            archive.seek(0)
            chunks = iter(lambda: archive.read(images.CHUNK), b"")
            found.import_tar(chunks, image.REFERENCE, image.CHANGES)
    finally:
        _run("umount", str(packages))


@contextlib.contextmanager
def _volume_group(directory: Path) -> Iterator[None]:
    # In a guest all but the directories of its host is memory.
    with tempfile.NamedTemporaryFile(dir=Path.cwd(), prefix=".disk-") as disk:
        disk.truncate(_SIZE)
        device = _run("losetup", "--find", "--show", disk.name).strip()
    lvm = directory / "lvm"
    lvm.mkdir()
    lvm.joinpath("lvm.conf").write_text(_LVM, encoding="utf-8")
    os.environ["LVM_SYSTEM_DIR"] = str(lvm)
    try:
        _run("vgcreate", GROUP, device)
        yield
        _run("vgremove", "--force", "--yes", GROUP)
    finally:
        _run("losetup", "--detach", device)
        del os.environ["LVM_SYSTEM_DIR"]


@contextlib.contextmanager
def _switch() -> Iterator[None]:
    """Lend Open vSwitch with the bridge that Manila's own driver plugs its servers into."""
    control = "/usr/share/openvswitch/scripts/ovs-ctl"
    # Version 3.1 looks for the CPUs every 10 s from the kernel's start on.
    time.sleep(max(0.0, 11.0 - time.monotonic()))
    _run(control, "start", "--system-id=random")
    try:
        _run("ovs-vsctl", "--timeout=10", "add-br", "br-int")
        yield
    finally:
        _run(control, "stop")


@contextlib.contextmanager
def _engine(directory: Path) -> Iterator[None]:
    """Lend an engine; in a guest, one of its own, whose kernel has no packet filter."""
    if "UML_GUEST" not in os.environ:
        yield
        return
    Path("/var/lib/docker").mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "docker", "/var/lib/docker")
    words = ["dockerd", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]
    log = directory / "dockerd.log"
    with log.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=file) as process:
        try:
            end = time.monotonic() + 60
            while subprocess.run(["docker", "version"], capture_output=True).returncode:
                if time.monotonic() > end:
                    raise TimeoutError(log.read_text()[-2000:])
                time.sleep(0.2)
            yield
        finally:
            process.terminate()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr}")
    return done.stdout
