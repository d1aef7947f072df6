# SPDX-License-Identifier: Apache-2.0
"""What an inventory and a ring say of nodes, and how they are told what is wrong with them."""

import dataclasses
import pickle
from pathlib import Path

import pytest
from swift.common.ring import RingBuilder

from container_stack import exceptions
from container_stack.drivers import rings
from container_stack.host import containers
from container_stack.storlets import gateway
from container_stack.storlets.node import inventory

GATEWAY = gateway.Gateway.of({})


def parse(text: str) -> tuple[inventory.Entry, ...]:
    return inventory.Inventory.parse(text).entries


def node(rest: str) -> str:
    return f"nodes: [{{name: one, url: 'unix:///run/docker.sock', {rest}}}]"


def test_nodes_come_in_the_order_of_the_file() -> None:
    entries = parse(
        """
        nodes:
          - {name: zeta, url: "ssh://swift@192.0.2.9"}
          - {name: alpha-1.example, url: "unix:///run/docker.sock", zone: 7}
        """
    )
    assert [(each.name, each.url, each.zone) for each in entries] == [
        ("zeta", "ssh://swift@192.0.2.9", ""),
        ("alpha-1.example", "unix:///run/docker.sock", "7"),
    ]


def test_defaults_hold_where_a_node_says_nothing(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    entries = parse(
        f"""
        defaults:
          user: 160
          timeout: 7.5
          tls: {{ca: {tmp_path}/ca, cert: {tmp_path}/cert, key: {tmp_path}/key}}
        nodes:
          - {{name: one, url: "tcp://192.0.2.1:2376", user: "161:162"}}
          - {{name: two, url: "unix:///run/docker.sock", grace: 300}}
        """
    )
    assert entries[0].tls == containers.TLS(f"{tmp_path}/ca", f"{tmp_path}/cert", f"{tmp_path}/key")
    assert [each.user for each in entries] == ["161:162", "160"]
    assert [each.timeout for each in entries] == [7.5, 7.5]
    assert [each.grace for each in entries] == [None, 300]
    assert entries[1].tls is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mapping"),
        ("[]", "mapping"),
        ("nodes: {}", "list"),
        ("nodes: []", "0 nodes"),
        ("nodes: [one]", r"nodes\[0\] must be a mapping"),
        ("node: []", "did you mean nodes"),
        ("nodes: [{url: 'unix:///s'}]", r"nodes\[0\] has no name"),
        ("nodes: [{name: one}]", "has no url"),
        (node("zones: 1"), "did you mean zone"),
        (node("xyzzy: 1"), "there are base"),
        (node("user: swift"), "UID"),
        (node("user: true"), "bool"),
        (node("timeout: 0"), "0 seconds"),
        (node("timeout: .nan"), "nan seconds"),
        (node("zone: [1]"), "kind list"),
        (node("tls: {ca: /nonexistent}"), "no file"),
        (node("tls: {crt: /nonexistent}"), "did you mean cert"),
        (node("name: two"), "'name' twice"),
        ("nodes: [{name: '-x', url: 'unix:///s'}]", "no name for a node"),
        ("nodes: [{name: one, url: 'http://x'}]", "no Docker Engine"),
        ("nodes: [{name: one, url: 'ssh://-oProxyCommand=x'}]", "no Docker Engine"),
        ("nodes: [{name: one, url: 'tcp://192.0.2.1:2375'}]", "without TLS"),
        ("nodes: [{name: a, url: 'unix:///s'}, {name: a, url: 'unix:///t'}]", "name a twice"),
        ("nodes: [{name: a, url: 'unix:///s'}, {name: b, url: 'unix:///s'}]", "unix:///s twice"),
        ("nodes: [{name: a, url: 'unix:///s'}\nnodes", "no YAML"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
        ("defaults: {url: 'unix:///s'}\nnodes: []", "unknown key 'url'"),
        ("[" * 5000, "no YAML"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=said):
        parse(text)


def test_text_that_unfolds_without_end_is_refused_in_few_words() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40)]
    text = "\n".join(["l0: &l0 [x]", *levels, "nodes: *l39"])
    with pytest.raises(exceptions.InvalidRequest) as refused:
        parse(text)
    assert len(str(refused.value)) < 200
    with pytest.raises(exceptions.InvalidRequest) as refused:
        parse("defaults: &a {zone: &b [*b, *b]}\nnodes: [{name: n, url: 'unix:///s'}]")
    assert len(str(refused.value)) < 200


def test_loopback_needs_no_tls() -> None:
    assert parse("nodes: [{name: one, url: 'tcp://127.0.0.1:2375'}]")[0].tls is None


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    with pytest.raises(exceptions.InvalidRequest, match="no inventory"):
        inventory.Inventory.read(str(path))
    path.write_text("nodes: 7")
    with pytest.raises(exceptions.InvalidRequest, match=str(path)):
        inventory.Inventory.read(str(path))
    path.write_bytes(b"#" * (inventory.MOST_BYTES + 1))
    with pytest.raises(exceptions.InvalidRequest, match="bytes"):
        inventory.Inventory.read(str(path))


def test_a_thousand_nodes_become_nodes_and_nothing_is_contacted(tmp_path: Path) -> None:
    lines = [f"  - {{name: n{n}, url: 'ssh://swift@node-{n}.example'}}" for n in range(1000)]
    path = tmp_path / "nodes.yaml"
    path.write_text("\n".join(["nodes:", *lines]))
    nodes = inventory.Inventory.read(str(path)).to_nodes(GATEWAY, base="base")
    assert [each.name for each in nodes] == [f"n{n}" for n in range(1000)]


def test_gateways_of_their_own_are_read_once_and_at_once(tmp_path: Path) -> None:
    conf = tmp_path / "gateway.conf"
    listed = inventory.Inventory.parse(node(f"gateway: {conf}"))
    with pytest.raises(exceptions.InvalidRequest, match="gateway"):
        listed.to_nodes(GATEWAY, base="base")
    conf.write_text("[DEFAULT]\nhost_root = /srv/storlets\n")
    assert listed.to_nodes(GATEWAY, base="base")[0].name == "one"


def test_engines_that_nobody_uses_are_closed() -> None:
    idle = inventory.Idle(2)
    engines = [Engine(n) for n in range(4)]
    for n in (0, 1, 0, 2, 2, 0, 3):
        idle.touch(engines[n])
    assert [each.closed for each in engines] == [0, 1, 1, 0]


class Engine(containers.Engine):
    def __init__(self, number: int) -> None:
        super().__init__(f"unix:///{number}")
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """Five devices on four hosts, one of them removed."""
    builder = RingBuilder(4, 2, 1)
    for number, (ip, zone) in enumerate(
        [
            *(("192.0.2.20", 2), ("192.0.2.11", 1), ("192.0.2.11", 1)),
            *(("2001:db8::7", 3), ("192.0.2.99", 1)),
        ]
    ):
        device = {"ip": ip, "port": 6200 + number, "device": f"sd{number}"}
        builder.add_dev({**device, "region": 1, "zone": zone, "weight": 1.0})
    builder.rebalance()
    builder.remove_dev(4)
    builder.rebalance()
    path = tmp_path / "object.ring.gz"
    builder.get_ring().save(str(path))
    return path


def test_hosts_of_a_ring_are_nodes_each_once(ring: Path) -> None:
    found = rings.read(str(ring), "ssh://swift@{ip}:2222").entries
    assert [(each.name, each.url, each.zone) for each in found] == [
        ("192.0.2.11", "ssh://swift@192.0.2.11:2222", "r1z1"),
        ("192.0.2.20", "ssh://swift@192.0.2.20:2222", "r1z2"),
        ("2001:db8::7", "ssh://swift@[2001:db8::7]:2222", "r1z3"),
    ]


def test_url_without_a_place_for_the_address_is_refused(ring: Path) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="must contain"):
        rings.read(str(ring), "ssh://swift@node")


@pytest.mark.parametrize("content", [b"", b"no ring", pickle.dumps({})])
def test_file_that_is_no_ring_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "object.ring.gz"
    path.write_bytes(content)
    with pytest.raises(exceptions.InvalidRequest, match="no ring"):
        rings.read(str(path), "ssh://{ip}")
    with pytest.raises(exceptions.InvalidRequest, match="no ring"):
        rings.read(str(tmp_path / "missing"), "ssh://{ip}")


def test_sample_is_an_inventory() -> None:
    sample = Path(__file__).parents[2] / "etc/container-stack/storlet-nodes.yaml.sample"
    text = sample.read_text()
    assert len(inventory.Inventory.parse(text).entries) == 3
    said = {field.name for field in dataclasses.fields(inventory.Entry)}
    assert {name for name in said if f"{name}:" in text} == said
