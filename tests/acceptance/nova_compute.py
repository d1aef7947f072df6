# SPDX-License-Identifier: Apache-2.0
"""Nova's compute service with the driver under test, run by root or by a user of its own."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from container_stack.rootwrap import config

from . import account, host, manila, nova_cloud, process

DRIVER = "container_stack.DockerDriver"
USER = "cstest-nova"
_READY = "Join ServiceGroup membership for this service"
_PROGRAM = Path(account.DAEMON).with_name("nova-compute")


@dataclasses.dataclass(frozen=True, slots=True)
class Compute:
    """A running compute service, which is a host to Nova.

    :param name: of the host, and of the availability zone that is this host alone.
    :param state: where the driver keeps what it must know.
    """

    name: str
    cloud: nova_cloud.Cloud
    service: process.Process
    state: Path
    identity: process.Identity

    @property
    def owner(self) -> str:
        """What the driver writes on everything that is this host's."""
        return f"nova-{self.name}"

    def containers(self, server: str = "") -> list[dict[str, object]]:
        """Return the engine's words on a server's containers, or on all of the host's."""
        labels = {"id": server} if server else {}
        return host.containers(self.owner, **labels)

    def images(self) -> set[str]:
        """Return the references of the images that the engine has for this host."""
        with host.engine() as client:
            listed = [tag for each in client.images.list() for tag in each.tags]
        return {tag for tag in listed if tag.startswith(_images_of(self.owner))}

    def configure(self, sections: manila.Sections) -> None:
        """Let the service have these options besides its own from its next start on."""
        manila.write_config(_later(self.state.parent), sections)

    def restart(self, timeout: float = 180) -> None:
        """Start the service again after its end, and wait until it takes orders."""
        before = self._said(_READY)
        self.service.start()
        self._wait_until_ready(before, timeout)

    def wait_until_ready(self, timeout: float = 180) -> None:
        """Wait until the service takes orders."""
        self._wait_until_ready(0, timeout)

    def _wait_until_ready(self, before: int, timeout: float) -> None:
        process.wait_for(
            f"nova-compute of {self.name}",
            lambda: self._said(_READY) > before,
            timeout=timeout,
            processes=[self.service],
        )

    def _said(self, words: str) -> int:
        return self.service.log.read_text(errors="replace").count(words)


@contextlib.contextmanager
def running(
    cloud: nova_cloud.Cloud,
    name: str,
    *,
    normal_user: bool,
    user: str = USER,
    driver: str = DRIVER,
    address: str = "127.0.0.1",
    options: Mapping[str, object] | None = None,
) -> Iterator[Compute]:
    """Run a compute service, which takes its time to start; in the end nothing is left of it.

    :param normal_user: run it as a user of its own instead of as root.
    :param user: the name of that user, who is made.
    :param address: of the loopback, by which other hosts tell it from themselves.
    :param options: more of section ``docker``.
    """
    home, rootwrap = cloud.directory / name, cloud.directory / f"{name}.rootwrap"
    state = home / "containers"
    for path in (home, rootwrap, state, home / "nova"):
        path.mkdir(mode=0o755)
    with contextlib.ExitStack() as undo:
        identity = process.ROOT
        if normal_user:
            undo.enter_context(account.reachable(home, rootwrap, *account.CODE))
            identity = undo.enter_context(
                account.normal_user(home=home, rootwrap=rootwrap, name=user)
            )
        for path in (home, state, home / "nova"):
            os.chown(path, identity.user, identity.group)
        config.install(rootwrap, ["nova"], str(state))
        sudo = "sudo -n " if normal_user else ""
        manila.write_config(
            home / "compute.conf",
            {
                "DEFAULT": {
                    "host": name,
                    "my_ip": address,
                    "compute_driver": driver,
                    "state_path": home / "nova",
                    # Seconds that a server waits for its ports.
                    "vif_plugging_timeout": 20,
                    "vif_plugging_is_fatal": True,
                },
                "oslo_concurrency": {"lock_path": home / "locks"},
                "docker": {
                    "host_url": account.ENGINE,
                    "state_dir": state,
                    "root_helper": f"{sudo}{account.DAEMON} {rootwrap}/rootwrap.conf",
                    **(options or {}),
                },
            },
        )
        _later(home).touch()
        undo.callback(_sweep, f"nova-{name}", state)
        argv = [str(_PROGRAM), f"--config-file={cloud.config}"]
        argv += [f"--config-file={home}/compute.conf", f"--config-file={_later(home)}"]
        service = process.Process(
            f"nova-compute-{name}",
            argv,
            home,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
            identity=identity,
        )
        made = Compute(name, cloud, undo.enter_context(service), state, identity)
        yield made
        service.stop()
        left = [str(each["Name"]) for each in made.containers()]
        left += host.mounts(state)
        assert not left, f"Left behind: {', '.join(left)}"


def _later(home: Path) -> Path:
    return home / "later.conf"


def _images_of(owner: str) -> str:
    """Return how the engine's names of a host's images begin."""
    return f"cs-server-image-{hashlib.sha256(owner.encode()).hexdigest()[:12]}/"


def _sweep(owner: str, state: Path) -> None:
    host.sweep(owner, state)
    with host.engine() as client:
        # What is cached for servers to come stays by design.
        for image in client.images.list():
            for tag in image.tags:
                if tag.startswith(_images_of(owner)):
                    client.images.remove(tag)
