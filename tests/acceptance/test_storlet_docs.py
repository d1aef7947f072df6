# SPDX-License-Identifier: Apache-2.0
"""The guide to storlets: every command in it, typed as it stands there by who it is for."""

import os
import subprocess
import sys
from pathlib import Path

from functional import storlet_host

from . import guide, host, storlet_world, swift

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "doc" / "source" / "storlets.rst"
BLOCKS = tuple(guide.blocks(GUIDE))

#: Another account than the other tests', and what the guide says instead.
USERS = {"account-manager": swift.STRANGER, "storlet-manager": swift.DEPLOYER}
IMAGE = "cstest-storlet-guide"
#: Whose blocks change this machine as a whole, and what alone may stand in them.
SETUP, INSTALLERS = "setup", {"pip", "tar", "make"}


def adapted(text: str, world: storlet_world.World, user: swift.User) -> str:
    """Return a script with the names of the test's own world."""
    names = {
        "http://swift.example.org:8080/auth/v1.0": world.swift.auth_url,
        "305f5f3d12834be187238e080b8643e4:manager": swift.STRANGER.login,
        "305f5f3d12834be187238e080b8643e4": swift.STRANGER.project,
        "SECRET": user.password,
        "storlet-base": storlet_host.BASE.partition(":")[0],
        "painter-image": IMAGE,
        "examples/storlet_service.py": str(ROOT / "examples" / "storlet_service.py"),
    }
    for ours, theirs in names.items():
        text = text.replace(ours, theirs)
    return text


def type_in(world: storlet_world.World, directory: Path, block: guide.Block) -> None:
    """Run a block as a user would, who stops at the first command that fails."""
    user = USERS[block.who]
    environment = {
        **world.environment(user),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "CONTAINER_STACK_CONFIG": str(world.config),
    }
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", adapted(block.script, world, user)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, (
        f"{GUIDE.name}, line {block.line}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    )


def test_every_block_says_who_types_it() -> None:
    assert {block.who for block in BLOCKS} == {*USERS, SETUP}
    assert len(BLOCKS) > 10


def test_only_what_installs_isnt_typed() -> None:
    for block in BLOCKS:
        if block.who == SETUP:
            assert block.programs <= INSTALLERS, block.line


def test_guide_leads_both_managers_from_nothing_to_a_rollback(
    cloud: storlet_world.World, tmp_path: Path
) -> None:
    try:
        for block in BLOCKS:
            if block.who in USERS:
                directory = tmp_path / block.who
                directory.mkdir(exist_ok=True)
                type_in(cloud, directory, block)
    finally:
        with host.engine() as client:
            for image in client.images.list(IMAGE):
                client.images.remove(image.id, force=True)
    versions = set(cloud.images(f"{swift.STRANGER.project[:13]}:latest").values())
    assert len(versions) == 1
    assert versions != {None}
