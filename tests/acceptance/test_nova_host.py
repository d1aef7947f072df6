# SPDX-License-Identifier: Apache-2.0
"""A host of real Nova dies, its server is evacuated, and it comes back as after a reboot."""

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from functional import busybox

from container_stack.host import containers, images

from . import account, host, nova_moving, process


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """What was before a host went down, and how it was when it had come back.

    :param evacuated: id of a server that another host has since.
    :param stayed: id of one that nobody has touched, and whose container the reboot has stopped.
    :param spare: how the engine calls an image that no server uses any more, and ``used`` one
        that a server does.
    """

    moving: nova_moving.Moving
    evacuated: str
    stayed: str
    interfaces: dict[str, Any]
    started: str
    spare: str
    used: str


@pytest.fixture(scope="module")
def returned(moving: nova_moving.Moving) -> Iterator[Returned]:
    """A host that was away; all of it takes one end and one start."""
    home, refuge = moving.hosts.strict, moving.hosts.lenient
    with (
        moving.server("refugee", home) as evacuated,
        moving.server("sitter", home) as stayed,
        _spare_image(moving) as spare,
    ):
        moving.write(evacuated, home, "calm sea")
        moving.write(stayed, home, "calm sea")
        interfaces = {each: moving.interfaces(each, home) for each in (evacuated, stayed)}
        [used] = [name for name in home.images() if moving.hosts.image in name]
        home.service.kill()
        with host.engine() as client:
            client.api.kill(moving.main(stayed, home)["Id"])
        moving.captain.type(f"openstack compute service set --down {home.name} nova-compute")
        moving.captain.type(f"openstack server evacuate --host {refuge.name} {evacuated}")
        # Since API version 2.95 it waits there for its user to start it.
        moving.user.settled(evacuated, "SHUTOFF")
        moving.user.sdk.compute.start_server(evacuated)
        moving.user.settled(evacuated, "ACTIVE")
        started = moving.main(evacuated, refuge)["State"]["StartedAt"]
        home.configure(
            {
                "DEFAULT": {
                    "resume_guests_state_on_host_boot": True,
                    "periodic_fuzzy_delay": 0,
                },
                "image_cache": {
                    "manager_interval": 2,
                    "remove_unused_original_minimum_age_seconds": 1,
                },
            }
        )
        home.restart()
        # For who starts it next.
        home.configure({})
        moving.captain.type(f"openstack compute service set --up {home.name} nova-compute")
        yield Returned(moving, evacuated, stayed, interfaces, started, spare, used)


def test_evacuated_server_runs_where_it_went_with_its_port(returned: Returned) -> None:
    moving, server = returned.moving, returned.evacuated
    home, refuge = moving.hosts.strict, moving.hosts.lenient

    assert home.containers(server) == []
    assert not (home.state / "servers" / server).exists()
    assert moving.where(server) == refuge.name
    container = moving.main(server, refuge)
    assert container["State"]["StartedAt"] == returned.started
    assert moving.interfaces(server, refuge) == returned.interfaces[server]
    # What the lost host had is lost, as everywhere without shared storage.
    assert moving.content(server, refuge) == ""
    moving.user.sdk.compute.reboot_server(server, "HARD")
    process.wait_for("the reboot", lambda: moving.user.server(server).task_state is None)
    moving.user.settled(server, "ACTIVE")
    assert moving.interfaces(server, refuge) == returned.interfaces[server]


def test_server_that_ran_before_the_host_went_down_runs_again(returned: Returned) -> None:
    moving, server = returned.moving, returned.stayed
    home = moving.hosts.strict

    found = process.wait_for("its start", lambda: moving.main(server, home)["State"]["Running"])
    assert found
    moving.user.settled(server, "ACTIVE")
    assert moving.interfaces(server, home) == returned.interfaces[server]
    assert moving.content(server, home) == "calm sea"


def test_image_that_no_server_uses_goes_and_the_others_stay(returned: Returned) -> None:
    home = returned.moving.hosts.strict

    process.wait_for("its end", lambda: returned.spare not in home.images(), timeout=180)
    # Nova looks again and again.
    time.sleep(3)
    assert returned.used in home.images()
    assert returned.moving.main(returned.stayed, home)["Image"]


@contextlib.contextmanager
def _spare_image(moving: nova_moving.Moving) -> Iterator[str]:
    """Have an image in the engine of which there was a server; yield what it is called there."""
    home, reference = moving.hosts.strict, f"cstest-nova-spare:{os.getpid()}"
    with contextlib.closing(containers.Engine(account.ENGINE)) as engine:
        library = images.Images(engine)
        changes = ('CMD ["sleep", "3600"]', "LABEL cstest=spare", "ENV PATH=/bin")
        library.import_tar(io.BytesIO(busybox.root_file_system()), reference, changes)
        try:
            image = moving.user.type(
                f"docker save {reference} | openstack image create spare "
                "--container-format docker --disk-format raw -f value -c id"
            ).strip()
        finally:
            library.remove(reference)
    with moving.hosts.server("of-the-spare", image=image):
        [name] = [each for each in home.images() if image in each]
    yield name
    moving.user.sdk.image.delete_image(image)
