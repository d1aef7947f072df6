# SPDX-License-Identifier: Apache-2.0
"""What the other acceptance tests stand on: a real Manila, shown with a driver that pretends."""

from collections.abc import Iterator, Mapping

import pytest

from . import backend, manila, process, resources, rest


@pytest.fixture(scope="module")
def toy(plane: manila.ControlPlane) -> Iterator[backend.Backend]:
    with backend.running(plane, "toy", _options, normal_user=False) as made:
        yield made


def _options(_place: backend.Place) -> Mapping[str, object]:
    return {
        "share_driver": "acceptance.toy.ToyDriver",
        "driver_handles_share_servers": True,
        "network_api_class": "manila.network.standalone_network_plugin.StandaloneNetworkPlugin",
        "standalone_network_plugin_gateway": "10.255.255.1",
        "standalone_network_plugin_mask": 24,
    }


@pytest.fixture(scope="module")
def share_type(toy: backend.Backend) -> str:
    return toy.client().create_type(toy.host, share_backend_name=toy.place.name)


def test_the_scheduler_knows_the_pool(toy: backend.Backend) -> None:
    [pool] = toy.client().pools(toy.host)

    assert pool.name == f"{toy.host}#toys"
    assert (pool.total_capacity_gb, pool.free_capacity_gb) == (11.0, 7.0)


def test_a_share_lives_through_the_rest_api(toy: backend.Backend, share_type: str) -> None:
    client = toy.client()
    network = client.create_network("harbour")
    share = client.create_share(network=network, share_type=share_type, size=2).id

    made = client.available(share)
    assert made.host == f"{toy.host}#toys"
    [path] = client.exports(share)
    assert path.startswith(rf"\\{_address(client, made)}\toy-")
    rule = client.allow(share, "alice")
    assert (rule.state, rule.access_key) == ("active", "ecila")
    assert client.allow(share, "ceph", kind="cephx").state == "error"
    assert (client.extend(share, 3).status, client.settled(share).size) == ("available", 3)
    client.deny(share, rule.id)
    assert [each.access_to for each in client.rules(share)] == ["ceph"]
    client.delete_share(share)
    client.delete_server(made.share_server_id)
    client.delete_network(network)


def test_projects_do_not_see_each_other(toy: backend.Backend) -> None:
    network = toy.client("sailors").create_network("harbour")

    listed = toy.client("miners").call("GET", "share-networks")["share_networks"]

    assert network not in [each["id"] for each in listed]


def test_a_killed_service_starts_again(toy: backend.Backend, share_type: str) -> None:
    toy.service.kill()
    assert not toy.service.running

    toy.restart()

    client = toy.client()
    network = client.create_network("harbour")
    share = client.create_share(network=network, share_type=share_type).id
    client.available(share)
    client.delete_share(share)
    client.delete_network(network)


def test_what_is_awaited_in_vain_fails_with_the_services_last_words(toy: backend.Backend) -> None:
    with pytest.raises(AssertionError, match=rf"(?s)the tide.*--- {toy.service.name} .*INFO"):
        process.wait_for("the tide", lambda: None, timeout=0.1, processes=[toy.service])


def test_a_refused_request_says_why(toy: backend.Backend) -> None:
    with pytest.raises(
        resources.RefusedError, match="Invalid share protocol provided: FTP"
    ) as refusal:
        toy.client().create_share(share_type="", protocol="FTP")

    assert refusal.value.code == 400


def _address(client: rest.Client, share: resources.Share) -> str:
    server = client.server(share.share_server_id)
    assert server is not None
    return server.details["address"]
