# SPDX-License-Identifier: Apache-2.0
"""What Nova's users may not do, what must not be done to them, and what survives."""

import base64
from collections.abc import Callable

import pytest

from . import host, nova_compute, nova_inside, nova_moving, nova_network, nova_world


@pytest.fixture
def volumes(hosts: nova_world.World) -> str:
    """The seed's user data, with a directory of these tests."""
    text = f"volumes :\n  {hosts.permitted} : {hosts.permitted}\n"
    return base64.b64encode(text.encode()).decode()


def test_a_directory_of_the_host_is_refused_with_the_option_that_would_allow_it(
    hosts: nova_world.World, volumes: str
) -> None:
    fault = _failed(hosts, user_data=volumes)

    assert "volumes" in fault
    assert "allowed_host_paths" in fault


def test_a_directory_that_the_operator_allows_is_in_the_server(
    hosts: nova_world.World, volumes: str
) -> None:
    with hosts.server(
        "permitted", user_data=volumes, availability_zone=nova_world.LENIENT
    ) as server:
        [container] = hosts.lenient.containers(server.id)
        (hosts.permitted / "log").write_text("calm sea")

        assert nova_inside.run(container, "cat", f"{hosts.permitted}/log") == "calm sea"


def test_an_image_that_is_no_archive_leaves_nothing(hosts: nova_world.World) -> None:
    image = hosts.user.sdk.image.create_image(
        name="noise",
        data=b"no archive at all" * 1000,
        container_format="docker",
        disk_format="raw",
        validate_checksum=False,
    )

    fault = _failed(hosts, image=image.id)

    assert f"{image.id} can't be used: The tar header" in fault
    hosts.user.sdk.image.delete_image(image.id)


def test_a_flavor_bigger_than_any_host_finds_none(hosts: nova_world.World) -> None:
    assert "No valid host was found" in _failed(hosts, flavor="huge")


def test_a_port_that_never_comes_up_fails_the_server_and_all_is_undone(
    hosts: nova_world.World,
) -> None:
    network = hosts.user.sdk.network
    port = network.create_port(name=f"{nova_network.DOWN}-1", network_id=hosts.network)

    fault = _failed(hosts, networks=[{"port": port.id}])

    assert "Failed to allocate the network" in fault
    network.delete_port(port.id)


@pytest.mark.parametrize("moment", ["record", "container"])
def test_a_service_killed_in_a_spawn_leaves_nothing_that_deletion_doesn_t_remove(
    hosts: nova_world.World, moment: str
) -> None:
    compute = hosts.strict
    made = hosts.user.create(
        "unlucky",
        hosts.image,
        hosts.flavors["small"],
        hosts.network,
        availability_zone=compute.name,
    )
    nova_moving.kill_when(compute, _seen(compute, made.id, moment))

    compute.restart()

    found = hosts.user.settled(made.id, "ACTIVE", "SHUTOFF", "ERROR")
    if found.status == "ERROR":
        assert compute.containers(made.id) == []
    hosts.user.delete(made.id)
    assert compute.containers(made.id) == []
    assert not list((compute.state / "servers").glob(made.id))


def test_servers_live_on_while_the_service_is_dead(hosts: nova_world.World) -> None:
    with (
        hosts.server("steady") as server,
        hosts.server("finished") as finished,
        hosts.server("another-host-s", availability_zone=nova_world.LENIENT) as other,
    ):
        [before] = hosts.strict.containers(server.id)
        [mortal] = hosts.strict.containers(finished.id)
        interfaces = host.addresses(before)
        hosts.strict.service.kill()
        with host.engine() as client:
            client.api.kill(mortal["Id"])

        hosts.strict.restart()

        [after] = hosts.strict.containers(server.id)
        assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
        assert host.addresses(after) == interfaces
        assert hosts.user.settled(server.id, "ACTIVE").status == "ACTIVE"
        hosts.user.settled(finished.id, "SHUTOFF")
        # Others' containers are never touched.
        [container] = hosts.lenient.containers(other.id)
        assert container["State"]["Running"]
    with host.engine() as client:
        assert client.api.inspect_container(hosts.foreign)["State"]["Running"]


def _failed(hosts: nova_world.World, **more: object) -> str:
    """Start a server that can't be; return why, when nothing is left of it."""
    before = hosts.strict.images()
    flavor = hosts.flavors[str(more.pop("flavor", "small"))]
    image = str(more.pop("image", hosts.image))
    zone = nova_world.STRICT
    made = hosts.user.create(
        "refused", image, flavor, hosts.network, availability_zone=zone, **more
    )
    found = hosts.user.settled(made.id, "ERROR")
    assert hosts.strict.containers(made.id) == []
    assert not list((hosts.strict.state / "servers").glob(made.id))
    assert hosts.strict.images() <= before
    hosts.user.delete(made.id)
    return str(found.fault["message"])


def _seen(compute: nova_compute.Compute, server: str, moment: str) -> Callable[[], bool]:
    def record() -> bool:
        return (compute.state / "servers" / server).exists()

    def container() -> bool:
        return bool(compute.containers(server))

    return {"record": record, "container": container}[moment]
