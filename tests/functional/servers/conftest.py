# SPDX-License-Identifier: Apache-2.0
"""Hosts with servers on the engine of this machine, and one image for all of them."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from container_stack.host import containers, images
from container_stack.servers import assembly

from . import server_host


@pytest.fixture(scope="session")
def image_id(engine: containers.Engine, busybox_image: str) -> str:
    """The engine's id of an image with busybox."""
    found = images.Images(engine).find(busybox_image)
    assert found is not None
    return found.id


@pytest.fixture(scope="module")
def shared_host(
    tmp_path_factory: pytest.TempPathFactory, image_id: str
) -> Iterator[server_host.Host]:
    if os.geteuid() != 0:
        pytest.skip("interfaces need root, or sudo: see the test of a normal user")
    made = server_host.Host(tmp_path_factory.mktemp("servers"), image_id)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def host(shared_host: server_host.Host) -> Iterator[server_host.Host]:
    """A host with nothing on it; what a test leaves is told, and taken away."""
    yield shared_host
    left = shared_host.things()
    for each in shared_host.engine.list(shared_host.labels()):
        shared_host.engine.remove(each.id)
    assert left == server_host.nothing()


@pytest.fixture(scope="module")
def shared_service(shared_host: server_host.Host) -> assembly.Service:
    service = shared_host.service()
    service.servers.start()
    return service


@pytest.fixture
def service(shared_service: assembly.Service, host: server_host.Host) -> assembly.Service:
    """A service on the host, for all tests of a module."""
    return shared_service
