# SPDX-License-Identifier: Apache-2.0
"""Share servers on somebody else's bridge, which has a router of its own."""

import dataclasses
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import assembly, cifs, model

from . import shares_host
from .smb_client import Client

host = shares_host.host
samba_image = shares_host.samba_image

ALICE = cifs.Rule("user", "alice")


@pytest.fixture
def bridge(host: shares_host.Host) -> Iterator[str]:
    """A bridge on which this host is the router."""
    name = f"cst{uuid.uuid4().hex[:8]}"
    _ip("link", "add", name, "type", "bridge")
    _ip("address", "add", f"{host.net}.1/24", "dev", name)
    _ip("link", "set", name, "up")
    host.settings = dataclasses.replace(host.settings, linux_bridge=name)
    yield name
    _ip("link", "delete", name)


def test_server_on_a_bridge_serves_and_is_plugged_again_after_a_restart(host, bridge):
    shares = host.service()
    shares.recover()
    server = shares.create_server(dataclasses.replace(host.spec(), mac="02:00:00:00:00:0a"))
    share = shares.create("share-1", server.id, shares_host.SMALL)
    password = shares.set_rules("share-1", [ALICE])["alice"]
    client = Client(server.spec.address, "share-1", "alice", password)
    client.open("kept").write(b"kept")
    client.close()
    assert "02:00:00:00:00:0a" in _ip("neigh", "show", server.spec.address, "dev", bridge)

    containers.Engine().kill(server.container_id)
    again = host.service()
    assert again.recover() == model.Health()
    assert again.ensure("share-1") == share
    client = Client(server.spec.address, "share-1", "alice", password)
    assert client.open("kept", write=False).read(4) == b"kept"
    client.close()

    again.delete("share-1")
    again.delete_server(server.id)
    assert host.things() == shares_host.nothing()
    assert _ip("link", "show", "master", bridge) == ""


def test_missing_bridge_is_named_and_leaves_nothing(host):
    host.settings = dataclasses.replace(host.settings, linux_bridge="cst-no-bridge")
    shares = host.service()
    shares.recover()
    with pytest.raises(exceptions.ContainerStackError, match="cst-no-bridge"):
        shares.create_server(host.spec())
    assert host.things() == shares_host.nothing()


def test_two_kinds_of_bridge_at_once_are_refused(host):
    settings = dataclasses.replace(host.settings, linux_bridge="br0", ovs_bridge="br1")
    with pytest.raises(exceptions.InvalidRequest, match="not both"):
        assembly.open_service(settings)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
