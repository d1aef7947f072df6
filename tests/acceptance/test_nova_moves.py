# SPDX-License-Identifier: Apache-2.0
"""Servers of real Nova go from host to host, and nothing that dies on the way loses them."""

from . import nova_moving, nova_world, process


def test_server_migrates_to_another_host_and_comes_back(moving: nova_moving.Moving) -> None:
    here, there = moving.hosts.strict, moving.hosts.lenient
    with moving.server("emigrant", here) as server:
        moving.write(server, here, "calm sea")
        before = moving.interfaces(server, here)

        # By an admin of another project: what goes through Glance is his, and the user confirms.
        moving.captain.type(f"openstack server migrate --host {there.name} {server}")
        moving.user.settled(server, "VERIFY_RESIZE")

        assert moving.where(server) == there.name
        assert moving.content(server, there) == "calm sea"
        assert moving.interfaces(server, there) == before
        assert _binding(moving, server) == there.name
        assert _said(moving, server) == nova_world.HELLO
        [aside] = here.containers(server)
        assert (aside["State"]["Running"], aside["Name"]) == (False, f"/cs-server-{server}-resized")
        assert moving.parcels() == []
        moving.user.type("openstack server resize confirm emigrant")
        moving.user.settled(server, "ACTIVE")
        assert process.wait_for("the end of it", lambda: here.containers(server) == [])
        assert moving.unsettled(here) == moving.unsettled(there) == []

        moving.purser.sdk.compute.migrate_server(server, host=here.name)
        moving.user.settled(server, "VERIFY_RESIZE")
        moving.write(server, here, "storm")
        moving.user.sdk.compute.revert_server_resize(server)
        moving.user.settled(server, "ACTIVE")

        assert moving.where(server) == there.name
        assert moving.content(server, there) == "calm sea"
        assert moving.interfaces(server, there) == before
        assert _binding(moving, server) == there.name
        assert here.containers(server) == []
        assert (moving.parcels(), moving.unsettled(here), moving.unsettled(there)) == ([], [], [])


def test_server_is_resized_on_the_host_that_has_room(moving: nova_moving.Moving) -> None:
    here, there = moving.hosts.lenient, moving.hosts.strict
    with moving.server("growing-elsewhere", here) as server:
        moving.write(server, here, "calm sea")
        moving.captain.type(f"openstack compute service set --disable {here.name} nova-compute")
        try:
            moving.user.sdk.compute.resize_server(server, moving.hosts.flavors["large"])
            moving.user.settled(server, "VERIFY_RESIZE")
        finally:
            moving.captain.type(f"openstack compute service set --enable {here.name} nova-compute")
        moving.user.sdk.compute.confirm_server_resize(server)
        moving.user.settled(server, "ACTIVE")

        assert moving.where(server) == there.name
        memory = moving.main(server, there)["HostConfig"]["Memory"]
        assert memory == nova_world.LARGE[0] * 1024**2
        assert moving.content(server, there) == "calm sea"


def test_service_killed_while_a_server_leaves_gives_it_back(moving: nova_moving.Moving) -> None:
    here, there = moving.hosts.strict, moving.hosts.lenient
    with moving.server("kept-back", here) as server:
        moving.write(server, here, "calm sea", nova_moving.MIB)
        before = moving.interfaces(server, here)
        moving.purser.sdk.compute.migrate_server(server, host=there.name)
        nova_moving.kill_when(here, lambda: moving.uploading(here))

        here.restart()

        moving.user.settled(server, "ACTIVE")
        assert moving.where(server) == here.name
        assert moving.content(server, here) == "calm sea"
        assert moving.interfaces(server, here) == before
        assert len(here.containers(server)) == 1
        assert there.containers(server) == []
        assert (moving.parcels(), moving.unsettled(here)) == ([], [])


def test_service_killed_while_a_server_arrives_finishes_that(moving: nova_moving.Moving) -> None:
    here, there = moving.hosts.lenient, moving.hosts.strict
    with moving.server("awaited", here) as server:
        moving.write(server, here, "calm sea", nova_moving.MIB)
        moving.captain.sdk.compute.migrate_server(server, host=there.name)
        nova_moving.kill_when(there, (there.state / "servers" / server).exists)

        there.restart()

        # Nova waits for it for ever; an admin ends that.
        moving.captain.type(f"openstack server set --state active --auto-approve {server}")
        moving.user.type("openstack server reboot --hard awaited")
        process.wait_for("the reboot", lambda: moving.user.server(server).task_state is None)
        moving.user.settled(server, "ACTIVE")
        assert moving.where(server) == there.name
        assert moving.content(server, there) == "calm sea"
        assert moving.parcels() == []
        assert len(here.containers(server)) == 1
    # What stood aside goes with the server.
    process.wait_for("the end of it", lambda: here.containers(server) == [], timeout=180)
    assert there.containers(server) == []
    process.wait_for("all accounts", lambda: moving.unsettled(here) == [])


def test_service_killed_in_a_snapshot_leaves_no_image(moving: nova_moving.Moving) -> None:
    here = moving.hosts.strict
    with moving.server("unpictured", here) as server:
        moving.write(server, here, "calm sea", nova_moving.MIB)
        started = moving.main(server, here)["State"]["StartedAt"]
        moving.user.sdk.compute.create_server_image(server, "blurred")
        nova_moving.kill_when(here, lambda: moving.uploading(here))

        here.restart()

        moving.user.settled(server, "ACTIVE")
        assert moving.main(server, here)["State"]["StartedAt"] == started
        assert moving.user.sdk.image.find_image("blurred") is None
        assert moving.unsettled(here) == []
        image = moving.user.sdk.compute.create_server_image(server, "sharp", wait=True, timeout=300)
        moving.user.sdk.image.delete_image(image.id)


def _binding(moving: nova_moving.Moving, server: str) -> str:
    [port] = moving.captain.sdk.network.ports(device_id=server)
    return str(port.binding_host_id)


def _said(moving: nova_moving.Moving, server: str) -> str:
    def look() -> str:
        said: str = moving.user.sdk.compute.get_server_console_output(server)["output"]
        return said.strip()

    return process.wait_for("words on the console", look)
