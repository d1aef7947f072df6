# SPDX-License-Identifier: Apache-2.0
"""One Manila and one Glance for the whole session, with the back ends under test."""

import os
from collections.abc import Iterator

import pytest

from . import (
    account,
    arrays,
    cifs,
    image_world,
    manila,
    nova_compute,
    nova_moving,
    nova_world,
    process,
    storlet_tenant,
    storlet_world,
    swift,
)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[manila.ControlPlane]:
    """Manila without a share service; in the end none of its processes is left."""
    assert os.geteuid() == 0, "Run as root: services are started as two users, one of them new"
    directory = tmp_path_factory.mktemp("acceptance")
    with manila.control_plane(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []
    assert not account.exists()


@pytest.fixture(scope="session", params=["root", "normal"])
def shares(request: pytest.FixtureRequest, plane: manila.ControlPlane) -> Iterator[cifs.Cifs]:
    """The back end, run by root, then by a normal user."""
    with cifs.running(plane, request.param) as running:
        yield running


@pytest.fixture(scope="module")
def network(shares: cifs.Cifs) -> Iterator[str]:
    """A share network, whose server stays for the module's tests."""
    with shares.network() as made:
        yield made


@pytest.fixture
def share(shares: cifs.Cifs, network: str) -> Iterator[cifs.Made]:
    """A share of 1 GiB without rules."""
    with shares.share(network) as made:
        yield made


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[image_world.World]:
    """Glance and its arrays; in the end none of their processes is left."""
    directory = tmp_path_factory.mktemp("glance")
    with image_world.running(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []


@pytest.fixture(params=["wire", "direct"])
def store(request: pytest.FixtureRequest) -> str:
    """The name of a store."""
    name: str = request.param
    return name


@pytest.fixture
def array(world: image_world.World, store: str) -> Iterator[arrays.Array]:
    """That store's array, without faults in the end."""
    yield world.arrays[store]
    world.arrays[store].simulator.faults.clear()


@pytest.fixture(scope="session")
def data() -> bytes:
    """The data of an image."""
    return image_world.make_data()


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[swift.Swift]:
    """Swift without storlets; in the end none of its processes is left."""
    directory = tmp_path_factory.mktemp("swift")
    with swift.running(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[storlet_world.World]:
    """Swift with storlets on three nodes; in the end none of their processes is left."""
    directory = tmp_path_factory.mktemp("storlets")
    with storlet_world.running(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []


@pytest.fixture(scope="session")
def tenant(cloud: storlet_world.World) -> Iterator[storlet_tenant.Tenant]:
    """An account that is enabled for storlets, with the base image and a storlet in it."""
    with storlet_tenant.running(cloud) as made:
        made.prepare()
        yield made


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nova_world.World]:
    """A cloud with two hosts; in the end none of its processes is left."""
    directory = tmp_path_factory.mktemp("nova")
    with nova_world.running(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []
    assert not account.exists(nova_compute.USER)


@pytest.fixture(scope="session")
def moving(hosts: nova_world.World) -> Iterator[nova_moving.Moving]:
    """That cloud with somebody who may move its user's servers."""
    with nova_moving.able(hosts) as made:
        yield made
