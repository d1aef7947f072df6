# SPDX-License-Identifier: Apache-2.0
"""libiscsi against the public suite, with a real target; and against one that misbehaves."""

import pathlib
from collections.abc import Iterator

import pytest

from container_stack.testing import attach_contract

from . import tgt_world


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[tgt_world.TgtWorld]:
    with tgt_world.TgtWorld(tmp_path) as world:
        yield world


class TestLibiscsi(attach_contract.AttachContract):
    pass
