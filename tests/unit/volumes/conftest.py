# SPDX-License-Identifier: Apache-2.0
"""One host, whose volumes are files or devices, and a service on it."""

import pytest

from .volume_world import World


@pytest.fixture(params=["file", "block"])
def world(request, tmp_path):
    made = World(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def volumes(world):
    made = world.service()
    yield made
    world.check_whole(made)
