# SPDX-License-Identifier: Apache-2.0
"""One server on the host's own addresses, where Manila handles no share servers."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

import pytest

from . import backend, cifs, host, manila, process, samba, smb

NAME = "cstest_site"
#: An address that only this host has, and that nobody serves on.
ADDRESS = f"127.90.{os.getpid() % 200}.7"
#: What makes Manila ask for usage, and tell its log.
GATHERING: manila.Sections = {
    "DEFAULT": {
        "enable_gathering_share_usage_size": True,
        "share_usage_size_update_interval": 2,
        "default_log_levels": "container_stack=DEBUG,oslo.messaging=WARN,"
        "oslo.messaging.notification=INFO,amqp=WARN,sqlalchemy=WARN,urllib3=WARN",
    },
    "oslo_messaging_notifications": {"driver": "log"},
}


@pytest.fixture(scope="module")
def shares(plane: manila.ControlPlane) -> Iterator[cifs.Cifs]:
    """A back end with one server for all."""
    subnet = host.unused_subnet()
    with contextlib.ExitStack() as undo:
        reference = undo.enter_context(samba.current_image())
        undo.callback(host.sweep, f"manila-{NAME}", plane.directory / NAME / cifs.STATE)

        def options(place: backend.Place) -> Mapping[str, object]:
            usual = {
                key: value
                for key, value in cifs.options(place, subnet, reference).items()
                if not key.startswith(("network_api", "standalone"))
            }
            return usual | {
                "driver_handles_share_servers": False,
                "container_stack_site_addresses": ADDRESS,
                "container_stack_share_protocols": "CIFS",
            }

        made = undo.enter_context(
            backend.running(plane, NAME, options, normal_user=False, more=GATHERING)
        )
        client = made.client()
        share_type = client.create_type(
            NAME, driver_handles_share_servers="False", share_backend_name=NAME
        )
        yield cifs.Cifs(made, client, share_type, subnet)


@pytest.fixture
def share(shares: cifs.Cifs) -> Iterator[cifs.Made]:
    """A share of 1 GiB without rules."""
    with shares.share(None) as made:
        yield made


def test_share_is_at_the_host_s_own_address_and_lets_nobody_in(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    assert share.address == ADDRESS
    assert not share.server
    assert smb.nobody_enters(share.location)

    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as client:
        client.write("log", b"calm sea")
        assert client.read_tree() == {"log": b"calm sea"}
    [rule] = shares.client.rules(share.id)
    shares.client.deny(share.id, rule.id)
    assert smb.refused(lambda: smb.enter_as(share.location, "alice", key))


def test_two_shares_are_apart_on_one_server(shares: cifs.Cifs, share: cifs.Made) -> None:
    with shares.share(None) as other:
        assert other.address == share.address
        assert len(host.containers(shares.owner)) == 1
        key = shares.key(other, "mallory")
        assert smb.enter_as(other.location, "mallory", key) == []
        assert smb.refused(lambda: smb.enter_as(share.location, "mallory", key))
    assert shares.client.extend(share.id, 2).size == 2


def test_another_project_s_user_name_is_refused_and_its_key_not_told(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    key = shares.key(share, "alice")
    miners = shares.backend.client("miners")
    theirs = miners.create_share(share_type=shares.share_type).id
    miners.available(theirs)

    assert miners.allow(theirs, "alice").state == "error"
    assert [each.access_key for each in miners.rules(theirs)] == [None]
    assert miners.allow(theirs, "digger").state == "active"
    assert smb.enter_as(share.location, "alice", key) == []
    miners.delete_share(theirs)


def test_server_that_somebody_removed_is_back_after_a_kill_with_users_and_files(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as client:
        client.write("log", b"calm sea")

    [container] = host.containers(shares.owner)
    with host.engine() as engine:
        engine.containers.get(container["Id"]).remove(force=True)
    shares.backend.service.kill()
    shares.backend.restart()

    shares.client.available(share.id)
    with smb.Client(share.location, "alice", shares.key_of(share, "alice")) as client:
        assert client.read_tree() == {"log": b"calm sea"}


def test_usage_of_a_share_is_told(shares: cifs.Cifs, share: cifs.Made) -> None:
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as client:
        client.write("log", bytes(64 * 1024**2))

    def told() -> list[float]:
        text = shares.backend.service.log.read_text(errors="replace")
        said = [line for line in text.splitlines() if "consumed.size" in line and share.id in line]
        return [float(each) for line in said for each in re.findall(r"used_size\W+([\d.]+)", line)]

    process.wait_for("word of 64 MiB", lambda: any(1 / 16 < each < 1 / 4 for each in told()))
