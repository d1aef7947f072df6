# SPDX-License-Identifier: Apache-2.0
"""Images that nodes pull from a real registry instead of being sent them."""

import contextlib
import io
import shutil
import socket
import subprocess
import tarfile
import time
import uuid

import pytest
import yaml

from container_stack import exceptions
from container_stack.drivers import storlet_registry
from container_stack.host import images
from container_stack.storlets import gateway, model
from container_stack.storlets.image import archive
from container_stack.storlets.node import engine_node


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """host:port of a registry."""
    if shutil.which("docker-registry") is None:
        pytest.fail("These tests need a registry; apt-get install docker-registry.")
    directory = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": address, "secret": "of no use here"},
    }
    (directory / "config.yml").write_text(yaml.safe_dump(config))
    with (directory / "log").open("wb") as log:
        argv = ["docker-registry", "serve", str(directory / "config.yml")]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await_answer(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _await_answer(address):
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def account():
    return model.Account(f"AUTH_{uuid.uuid4().hex}")


@pytest.fixture
def image(engine, name):
    """An image that the engine hasn't got, and its archive."""
    engine_images = images.Images(engine)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("word")
        member.size = len(name)
        tar.addfile(member, io.BytesIO(name.encode()))
    made = engine_images.import_tar(io.BytesIO(buffer.getvalue()), f"{name}:1")
    saved = io.BytesIO(b"".join(engine_images.save([made.id])))
    engine_images.remove(f"{name}:1")
    yield archive.ImageArchive.open(saved, len(saved.getvalue()))
    assert engine_images.find(made.id) is None


@pytest.fixture
def node(engine, busybox_image, account):
    made = engine_node.EngineNode("n1", engine, gateway.Gateway.of({}), base=busybox_image)
    yield made
    for each in made.state(account).kept:
        made.forget(account, each)


def test_a_node_gets_by_digest_what_was_pushed_and_keeps_no_other_name(
    registry, engine, account, image, node
):
    engine_images = images.Images(engine)
    pushed = storlet_registry.Registry(engine_images, f"{registry}/accounts/").push(account, image)
    assert pushed.startswith(f"{registry}/accounts/{account.scope}@sha256:")
    assert engine_images.find(image.image_id) is None

    node.stage_from(account, image.image_id, pushed)

    assert node.state(account).kept == {image.image_id}
    found = engine_images.find(image.image_id)
    assert [tag for tag in found.tags if registry in tag] == []


def test_what_a_registry_has_instead_is_not_kept(registry, engine, account, image, node):
    pushed = storlet_registry.Registry(images.Images(engine), registry).push(account, image)
    other = f"sha256:{'0' * 64}"
    with pytest.raises(exceptions.InvalidRequest, match="not"):
        node.stage_from(account, other, pushed)
    assert node.state(account).kept == frozenset()


def test_a_registry_that_is_down_leaves_nothing_behind(engine, account, image):
    with pytest.raises(exceptions.ContainerStackError):
        storlet_registry.Registry(images.Images(engine), "127.0.0.1:1").push(account, image)
