# SPDX-License-Identifier: Apache-2.0
"""Nodes that are elsewhere: by ssh, by TLS, and images that come from a registry."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.storlets.node import inventory
from container_stack.testing import node_contract

from . import dockerd, ssh_server, storlet_host, storlet_node

#: In the engine's own network namespace.
TLS_PORT, REGISTRY = 2376, "127.0.0.1:5000"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, and certificates of an engine and a manager."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, made in (
        ("engine", authority.issue_cert("127.0.0.1")),
        ("manager", authority.issue_cert("manager@example.org")),
    ):
        made.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
        made.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    trustme.CA().issue_cert("stranger@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(directory / "stranger.pem")
    )
    return directory


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[dockerd.Dockerd]:
    options = (
        *(f"--host=tcp://127.0.0.1:{TLS_PORT}", "--tlsverify"),
        *(f"--tlscacert={certificates}/ca.pem", f"--tlscert={certificates}/engine.pem"),
        f"--tlskey={certificates}/engine.key",
    )
    with storlet_node.running(tmp_path_factory.mktemp("node"), *options) as running:
        yield running


@pytest.fixture
def world(daemon: dockerd.Dockerd) -> Iterator[storlet_node.NodeWorld]:
    with storlet_node.world(daemon.url) as made:
        yield made


def test_node_behind_ssh_gets_an_image_and_runs_it(
    world: storlet_node.NodeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = world.image("far")
    with ssh_server.running(tmp_path, world.url, monkeypatch) as url:
        listed = inventory.Inventory((inventory.Entry("far", url, user="0"),))
        [world.node] = listed.to_nodes(world.gateway, base=storlet_host.BASE)
        world.node.check()
        assert node_contract.stage(world, image) < 100_000
        world.node.switch(world.account, image.image_id)
        state = world.node.state(world.account)
        assert (state.running, state.healthy) == (image.image_id, True)
        assert world.serve(world.account) == image.image_id
        world.node.clear(world.account)
        world.node.forget(world.account, image.image_id)
    with pytest.raises(exceptions.EngineUnavailable, match="ssh says"):
        containers.Engine(url).version()


TLS_CLIENT = """
import json, sys
from container_stack import exceptions
from container_stack.storlets import gateway, model
from container_stack.storlets.node import inventory
order = json.load(sys.stdin)
account = model.Account(order["account"])
gateway = gateway.Gateway.of(order["options"])
[node] = inventory.Inventory.parse(order["inventory"]).to_nodes(gateway, base=order["base"])
node.check()
archive = open(order["archive"], "rb").read()
node.stage(account, order["image"], order["layers"], lambda skip: iter([archive]))
node.switch(account, order["image"])
state = node.state(account)
assert state.running == order["image"] and state.healthy, state
[stranger] = inventory.Inventory.parse(order["stranger"]).to_nodes(gateway, base=order["base"])
try:
    stranger.state(account)
    raise SystemExit("a stranger was let in")
except exceptions.EngineUnavailable as exc:
    assert "certificates" in str(exc), exc
"""


def test_node_behind_tls_gets_an_image_and_refuses_strangers(
    world: storlet_node.NodeWorld, daemon: dockerd.Dockerd, certificates: Path, tmp_path: Path
) -> None:
    image = world.image("far")
    (tmp_path / "delta.tar").write_bytes(b"".join(image.stream(1)))
    ours = {"ca": "ca.pem", "cert": "manager.pem", "key": "manager.key"}
    order = {
        "account": world.account.name,
        "options": world.options,
        "base": storlet_host.BASE,
        "image": image.image_id,
        "layers": node_contract.diff_ids(image),
        "archive": str(tmp_path / "delta.tar"),
        "inventory": listing(certificates, ours),
        "stranger": listing(certificates, {"ca": "ca.pem", "cert": "stranger.pem"}),
    }
    enter = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net", sys.executable, "-c", TLS_CLIENT]
    subprocess.run(enter, input=json.dumps(order).encode(), check=True, timeout=120)
    assert world.serve(world.account) == image.image_id


def listing(directory: Path, files: dict[str, str]) -> str:
    """Return an inventory of the engine, as its own network namespace reaches it."""
    tls = {what: str(directory / name) for what, name in files.items()}
    node = {"name": "far", "url": f"tcp://127.0.0.1:{TLS_PORT}", "tls": tls}
    return json.dumps({"nodes": [node]})


@pytest.fixture
def registry(daemon: dockerd.Dockerd, tmp_path: Path) -> Iterator[str]:
    """A registry that the engine reaches."""
    if shutil.which("docker-registry") is None:
        pytest.fail("These tests need docker-registry; apt-get install docker-registry.")
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": REGISTRY},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    enter = ("nsenter", f"--net=/proc/{daemon.pid}/ns/net")
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [*enter, "docker-registry", "serve", tmp_path / "registry.yml"], stdout=log, stderr=log
        )
    try:
        yield REGISTRY
    finally:
        process.terminate()
        process.wait(10)


def push(world: storlet_node.NodeWorld, image_id: str, reference: str) -> str:
    """Bring an image to the registry, which may just be starting, and to nowhere else."""
    world.images.tag(image_id, reference)
    deadline = time.monotonic() + 30
    while True:
        try:
            pushed = world.images.push(reference)
            break
        except exceptions.ServiceUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    world.images.remove(reference)
    return pushed


def test_image_comes_from_a_registry_by_its_digest(
    world: storlet_node.NodeWorld, registry: str
) -> None:
    [image_id] = storlet_node.ready(world, "pushed")
    reference = push(world, image_id, f"{registry}/storlets/acc:1")
    assert reference.startswith(f"{registry}/storlets/acc@sha256:")
    world.node.forget(world.account, image_id)
    assert not world.holds(image_id)
    for _again in range(2):
        world.node.stage_from(world.account, image_id, reference)
        assert world.node.state(world.account).kept == {image_id}
        assert not world.images.tagged(f"{registry}/*/*")
    world.node.switch(world.account, image_id)
    assert world.serve(world.account) == image_id


def test_another_image_from_a_registry_is_refused_and_removed(
    world: storlet_node.NodeWorld, registry: str
) -> None:
    one, two = storlet_node.ready(world, "one", "two")
    reference = push(world, two, f"{registry}/storlets/acc:2")
    for image_id in (one, two):
        world.node.forget(world.account, image_id)
    with pytest.raises(exceptions.InvalidRequest, match=two):
        world.node.stage_from(world.account, one, reference)
    assert not world.holds(two)
    assert world.node.state(world.account).kept == frozenset()


def test_registry_that_lacks_an_image_says_so(world: storlet_node.NodeWorld, registry: str) -> None:
    [image_id] = storlet_node.ready(world, "one")
    push(world, image_id, f"{registry}/storlets/acc:3")
    other = "sha256:" + "1" * 64
    with pytest.raises(exceptions.NotFound):
        world.node.stage_from(world.account, other, f"{registry}/storlets/acc@{other}")


def test_registry_that_is_gone_says_so(world: storlet_node.NodeWorld) -> None:
    other = "sha256:" + "1" * 64
    with pytest.raises(exceptions.ServiceUnavailable):
        world.node.stage_from(world.account, other, "127.0.0.1:5999/storlets/acc:1")
    with pytest.raises(exceptions.ServiceUnavailable):
        images.Images(containers.Engine(world.url)).push(storlet_node.DEFAULT)
