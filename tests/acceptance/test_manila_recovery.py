# SPDX-License-Identifier: Apache-2.0
"""What the service and its containers go through: kill -9 at any moment, and a start after it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from . import cifs, host, smb

pytestmark = cifs.BY_A_NORMAL_USER


def test_clients_do_not_notice_that_the_service_is_killed(
    shares: cifs.Cifs, network: str, share: cifs.Made
) -> None:
    key = shares.key(share, "alice")
    with (
        smb.Client(share.location, "alice", key) as client,
        smb.writing(client, "log") as writer,
    ):
        shares.backend.service.kill()
        shares.backend.restart()

    assert writer.failures == []
    assert shares.client.exports(share.id) == [share.location]
    assert shares.client.extend(share.id, 2).status == "available"
    with smb.Client(share.location, "carol", shares.key(share, "carol")) as client:
        assert client.read("log") == writer.expected()
    with shares.share(network) as other:
        assert other.server == share.server
        with smb.Client(other.location, "alice", shares.key(other, "alice")) as client:
            client.write("log", b"calm sea")


def test_what_a_killed_service_was_making_can_be_deleted_and_made_again(
    shares: cifs.Cifs,
) -> None:
    client = shares.client
    with shares.network() as network:
        asked = [shares.ask(network) for _ in range(3)]
        client.wait("a container", lambda: _containers_on(shares, network))
        shares.backend.service.kill()
        shares.backend.restart()

        # Manila doesn't take up again what it was at; an administrator clears it away.
        for unfinished in asked:
            client.reset("shares", unfinished)
            client.delete_share(unfinished)
        servers = client.servers(network)
        for server in servers:
            client.reset("share-servers", server)
            client.delete_server(server)
        assert host.loop_devices(shares.state) == {}
        assert [host.containers(shares.owner, id=server) for server in servers] == [[]]

        with shares.share(network) as share:
            key = shares.key(share, "alice")
            assert smb.enter_as(share.location, "alice", key) == []


_ENDS: Mapping[str, Callable[[Any], object]] = {
    "kill": lambda container: container.kill(),
    "remove": lambda container: container.remove(force=True, v=True),
}


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_a_server_comes_back_with_its_address_its_files_and_its_rules(
    shares: cifs.Cifs, share: cifs.Made, end: str
) -> None:
    key, reader = shares.key(share, "alice"), shares.key(share, "reader", "ro")
    with smb.Client(share.location, "alice", key) as client:
        client.write("log", b"calm sea")
    [container] = host.containers(shares.owner, id=share.server)

    shares.backend.service.stop()
    with host.engine() as engine:
        _ENDS[end](engine.containers.get(container["Id"]))
    shares.backend.restart()

    assert shares.client.available(share.id)
    assert shares.client.exports(share.id) == [share.location]
    with smb.Client(share.location, "alice", shares.key_of(share, "alice")) as client:
        assert client.read_tree() == {"log": b"calm sea"}
        client.write("later", b"rain")
    with smb.Client(share.location, "reader", shares.key_of(share, "reader")) as client:
        assert client.read("later") == b"rain"
        assert smb.refused(lambda: client.write("log", b"storm"))
    assert smb.nobody_enters(share.location)
    assert smb.refused(lambda: smb.enter_as(share.location, "mallory", key))
    if end != "remove":
        assert (key, reader) == (shares.key_of(share, "alice"), shares.key_of(share, "reader"))


def _containers_on(shares: cifs.Cifs, network: str) -> list[str]:
    servers = shares.client.servers(network)
    return [each["Id"] for server in servers for each in host.containers(shares.owner, id=server)]
