# SPDX-License-Identifier: Apache-2.0
"""All use of volumes ends: with the real engine, without one, and as a normal user."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, mounts
from container_stack.rootwrap import commands, executor
from container_stack.testing import privilege
from container_stack.volumes.cluster import ending

from .. import service_account
from ..conftest import MakeSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A daemon's directory, with a volume mounted."""
    directory = tmp_path / "osd"
    mounted = directory / "mounts" / "nfs" / "data"
    mounted.mkdir(parents=True)
    (tmp_path / "data").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "data", mounted], check=True)
    yield directory
    while mounts.at(str(mounted)):
        subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.fixture
def run(state: Path) -> Iterator[executor.Executor]:
    made = privilege.make_executor(state, drivers=["osd"])
    yield made
    made.close()


@pytest.fixture
def users(
    engine: containers.Engine, make_spec: MakeSpec, state: Path, name: str
) -> Iterator[dict[str, str]]:
    """Containers with the volume, one of them paused, and one without."""
    bind = containers.Mount(str(state / "mounts" / "nfs" / "data"), "/data")
    found = {
        "running": engine.run(
            make_spec(name=f"{name}-running", mounts=[bind], restart="unless-stopped")
        ),
        "paused": engine.run(make_spec(name=f"{name}-paused", mounts=[bind])),
        "other": engine.run(make_spec(name=f"{name}-other")),
    }
    with engine.connection.use() as client:
        client.pause(found["paused"])
    yield found
    for each in found.values():
        engine.remove(each)


@pytest.mark.parametrize("url", ["engine", "", "unix:///nonexistent/cstest"])
def test_containers_end_whether_or_not_the_engine_helps(
    engine: containers.Engine,
    users: dict[str, str],
    state: Path,
    run: executor.Executor,
    url: str,
) -> None:
    url = _url() if url == "engine" else url
    end = ending.Ending(run, str(state), url)
    assert end.used() == [str(state / "mounts" / "nfs" / "data")]
    pids = {which: engine.inspect(each).pid for which, each in users.items()}
    if url != _url():
        # A frozen process dies when it thaws, and only the engine thaws it.
        with pytest.raises(exceptions.CommandFailed, match=f"process {pids['paused']}"):
            end.end()
        assert end.used()
        with engine.connection.use() as client:
            client.unpause(users["paused"])
    _until_it_succeeds(end)
    assert end.used() == []
    for which in ("running", "paused"):
        pid = pids[which]
        assert pid is not None
        assert not _runs(pid), which
    assert engine.inspect(users["other"]).pid == pids["other"]


def test_a_container_that_the_engine_kills_stays_down(
    engine: containers.Engine, users: dict[str, str], state: Path, run: executor.Executor
) -> None:
    _until_it_succeeds(ending.Ending(run, str(state), _url()))
    time.sleep(3)
    assert engine.inspect(users["running"]).state == "exited"


def test_nothing_is_left_to_do_and_the_helper_is_asked_all_the_same(
    state: Path, run: executor.Executor
) -> None:
    end = ending.Ending(run, str(state), _url())
    end.end()
    end.end()
    end.close()
    end = ending.Ending(executor.Executor(["false"], state_dir=str(state)), str(state))
    with pytest.raises(exceptions.RootHelperUnavailable):
        end.end()


def test_a_normal_user_ends_what_is_roots() -> None:
    with service_account.account(driver="osd", more=[_Here(*_fields())]) as account:
        mounted = account.state / "mounts" / "data"
        mounted.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "cstest", mounted], check=True)
        user = subprocess.Popen(["sleep", "infinity"], cwd=mounted)
        try:

            def end() -> list[str]:
                assert os.geteuid() != 0
                run = executor.Executor(account.helper, state_dir=str(account.state))
                it = ending.Ending(run, str(account.state))
                it.end()
                it.close()
                return it.used()

            assert account.call(end) == []
            assert user.wait(10) == -9
        finally:
            user.kill()
            while mounts.at(str(mounted)):
                subprocess.run(["umount", "--lazy", mounted], check=True)


class _Here(commands.Command):
    """The command where this package's scripts are, in place of the one where pip puts them."""

    __slots__ = ()

    def filter(self, state_dir: str = "", scripts: str = "") -> str:
        return commands.programs.OSD_FENCE.filter(state_dir, str(service_account.DAEMON.parent))


def _fields() -> tuple[str, str]:
    return commands.programs.OSD_FENCE.name, commands.programs.OSD_FENCE.template


def _until_it_succeeds(end: ending.Ending) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return end.end()
        except exceptions.ContainerStackError:
            assert time.monotonic() < deadline


def _runs(pid: int) -> bool:
    """Tell whether a process is more than what its parent will be told of."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    state = status.partition("State:\t")[2][0]
    return state not in "ZX"


def _url() -> str:
    return os.environ.get("DOCKER_HOST", containers.DEFAULT_URL)
