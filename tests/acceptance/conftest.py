# SPDX-License-Identifier: Apache-2.0
"""One Manila for the whole session."""

from collections.abc import Iterator

import pytest

from . import manila, process


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[manila.ControlPlane]:
    """Manila without a share service; in the end none of its processes is left."""
    directory = tmp_path_factory.mktemp("acceptance")
    with manila.control_plane(directory) as running:
        yield running
    assert process.mentioning(str(directory)) == []
