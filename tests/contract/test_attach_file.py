# SPDX-License-Identifier: Apache-2.0
"""Files as volumes against the public suite, and what links may lead to."""

import os
import pathlib

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_file
from container_stack.testing import attach_contract

from . import file_world


@pytest.fixture
def world(tmp_path: pathlib.Path) -> file_world.FileWorld:
    return file_world.FileWorld(tmp_path)


class TestFile(attach_contract.AttachContract):
    pass


@pytest.mark.parametrize("where", ["/etc/hostname", "../../../out.img", "../../volumes"])
def test_link_that_does_not_lead_to_a_volume_is_refused(
    world: file_world.FileWorld, tmp_path: pathlib.Path, where: str
) -> None:
    (tmp_path.parent / "out.img").write_bytes(bytes(4096))
    world.link("iqn.2026-11.test:bad", where)
    target = attach.Target("iqn.2026-11.test:bad", ())
    with pytest.raises((exceptions.InvalidRequest, exceptions.ArrayUnavailable)):
        world.attacher().attach(target)
    (tmp_path.parent / "out.img").unlink()


@pytest.mark.parametrize("iqn", ["..", ".", "", "../volumes"])
def test_name_that_leads_elsewhere_is_refused(world: file_world.FileWorld, iqn: str) -> None:
    with pytest.raises((exceptions.InvalidRequest, exceptions.NotFound)):
        world.attacher().attach(attach.Target(iqn, ()))


def test_descriptors_do_not_pile_up(world: file_world.FileWorld) -> None:
    attacher, target = world.attacher(), world.make("one", 4096)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with attacher.attach(target) as device:
            device.read(0, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_simulator_that_does_not_run_is_told(tmp_path: pathlib.Path) -> None:
    options = attach.Options(directory=str(tmp_path / "none"))
    with pytest.raises(exceptions.HostNotReady, match="simulator"):
        attach_file.FileAttacher.open(options).check()
    with pytest.raises(exceptions.InvalidRequest):
        attach_file.FileAttacher.open(attach.Options())
