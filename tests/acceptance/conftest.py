# SPDX-License-Identifier: Apache-2.0
"""One Manila for the whole session, and the back end under test once for each user."""

import os
from collections.abc import Iterator

import pytest

from . import account, cifs, manila, process


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
