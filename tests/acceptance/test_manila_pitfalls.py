# SPDX-License-Identifier: Apache-2.0
"""What Manila's own container driver gets wrong must be right here: one test for each fault."""

import concurrent.futures
import contextlib

from . import cifs, host, smb

pytestmark = cifs.BY_A_NORMAL_USER

#: How many shares are made at once.
MANY = 12


def test_capacity_is_reported_as_numbers(shares: cifs.Cifs, network: str) -> None:
    with shares.share(network, size=7):
        shares.backend.plane.publish()

        def free() -> float | None:
            [pool] = shares.client.pools(shares.backend.host)
            assert pool.total_capacity_gb == cifs.POOL_GB
            return pool.free_capacity_gb if pool.free_capacity_gb < 10 else None

        # As text, 16 comes before 9.
        assert 8 <= shares.client.wait("less free capacity", free) <= 9


def test_a_server_needs_no_mac_address_from_its_network(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    server = shares.client.server(share.server)

    assert server is not None
    assert server.status == "active"
    assert len(host.containers(shares.owner, id=share.server)) == 1


def test_a_server_has_its_networks_mask_mtu_and_default_route(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    [container] = host.containers(shares.owner, id=share.server)

    interfaces = {
        address["local"]: (address["prefixlen"], interface["mtu"])
        for interface in host.addresses(container)
        for address in interface["addr_info"]
    }
    gateways = [each["gateway"] for each in host.routes(container) if each["dst"] == "default"]
    assert interfaces[share.address] == (shares.subnet.prefixlen, cifs.MTU)
    assert gateways == [str(shares.subnet[1])]


def test_a_deleted_server_leaves_no_container(shares: cifs.Cifs) -> None:
    with shares.network() as network, shares.share(network) as share:
        assert len(host.containers(shares.owner, id=share.server)) == 1
        shares.client.delete_share(share.id)

        shares.client.delete_server(share.server)

        assert host.containers(shares.owner, id=share.server) == []


def test_a_share_without_rules_admits_nobody(shares: cifs.Cifs, share: cifs.Made) -> None:
    assert smb.nobody_enters(share.location)

    key = shares.key(share, "alice")
    assert smb.nobody_enters(share.location)
    [rule] = shares.client.rules(share.id)
    shares.client.deny(share.id, rule.id)

    assert smb.nobody_enters(share.location)
    assert smb.refused(lambda: smb.enter_as(share.location, "alice", key))


def test_a_changed_rule_takes_effect_and_admits_nobody_else(
    shares: cifs.Cifs, network: str, share: cifs.Made
) -> None:
    key = shares.key(share, "alice")
    [rule] = shares.client.rules(share.id)
    with smb.Client(share.location, "alice", key) as client:
        client.write("log", b"calm sea")

    assert shares.client.change(share.id, rule.id, "ro").state == "active"

    with smb.Client(share.location, "alice", key) as client:
        assert client.read("log") == b"calm sea"
        assert smb.refused(lambda: client.write("log", b"storm"))
    assert smb.nobody_enters(share.location)
    with shares.share(network) as other:
        mallory = shares.key(other, "mallory")
        assert smb.refused(lambda: smb.enter_as(share.location, "mallory", mallory))

    assert shares.client.change(share.id, rule.id, "rw").state == "active"

    with smb.Client(share.location, "alice", key) as client:
        client.write("log", b"rain")


def test_a_rule_for_a_user_who_can_not_be_goes_to_error(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    for name in ("root", "Alice", "alice.liddell", "$alice", "x" * 33):
        assert shares.client.allow(share.id, name).state == "error", name
    assert smb.enter_as(share.location, "carol", shares.key(share, "carol")) == []


def test_a_busy_share_grows(shares: cifs.Cifs, share: cifs.Made) -> None:
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as client:
        with client.open("log", "wb") as file:
            file.write(b"calm ")

            assert shares.client.extend(share.id, 2).status == "available"

            file.write(b"sea")
        assert client.read("log") == b"calm sea"


def test_after_a_restart_of_its_container_writes_still_go_to_the_share(
    shares: cifs.Cifs, share: cifs.Made
) -> None:
    key = shares.key(share, "alice")
    [container] = host.containers(shares.owner, id=share.server)
    with host.engine() as engine:
        engine.containers.get(container["Id"]).restart(timeout=5)

    def client() -> smb.Client | None:
        # Until its network answers, a connection is refused, or its packets go nowhere.
        with contextlib.suppress(*smb.FAILED, ValueError):
            return smb.Client(share.location, "alice", key).__enter__()
        return None

    with shares.client.wait("the server at its old address", client) as alice:
        alice.write("buoy", b"calm sea")

    [path] = (shares.state / "mounts").rglob("buoy")
    assert path.stat().st_dev != shares.state.stat().st_dev


def test_many_shares_are_made_and_deleted_at_once(
    shares: cifs.Cifs, network: str, share: cifs.Made
) -> None:
    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        made = list(pool.map(lambda _: shares.made(shares.ask(network)), range(MANY)))
        list(pool.map(lambda each: shares.client.delete_share(each.id), made))
    assert {each.server for each in made} == {share.server}
