# SPDX-License-Identifier: Apache-2.0
"""The back end that may be hurt, once for all tests of faults."""

from collections.abc import Iterator

import pytest

from acceptance import manila
from acceptance.faults import trial, world


@pytest.fixture(scope="package")
def trials(
    plane: manila.ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[trial.Trial]:
    """A share on that back end, and what can be done to it."""
    # A short name: containerd takes paths of sockets up to 104 characters.
    with world.running(plane, tmp_path_factory.mktemp("f")) as made:
        yield trial.Trial(made)
