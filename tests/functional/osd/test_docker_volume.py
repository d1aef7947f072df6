# SPDX-License-Identifier: Apache-2.0
"""The Docker volume plugin, asked by this machine's engine."""

import itertools
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack.testing import memory_volumes

from . import plugin_world

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an engine of its own needs root")


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[plugin_world.PluginDockerd]:
    with plugin_world.plugin_dockerd(tmp_path_factory.mktemp("dockerd")) as started:
        yield started


@pytest.fixture(scope="module")
def world(
    dockerd: plugin_world.PluginDockerd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[plugin_world.World]:
    with plugin_world.World(dockerd, tmp_path_factory.mktemp("osd")).running() as world:
        yield world


@pytest.fixture(autouse=True)
def _nothing_stays_in_use(world: plugin_world.World) -> Iterator[None]:
    yield
    assert world.counts() == []
    world.clear()


@pytest.fixture
def run(world: plugin_world.World) -> Iterator[Callable[..., str]]:
    """Run a container, and return what it says, or with -d its id; it is removed in the end."""
    names = (f"cstest-{number}" for number in itertools.count())
    made: list[str] = []

    def run(*argv: str, command: str = "sleep 3600") -> str:
        made.append(next(names))
        first = ("run", "--init", "--network", "none", "--name", made[-1])
        said = world.docker(*first, *argv, plugin_world.IMAGE, "sh", "-c", command)
        return said.stdout.strip()

    yield run
    if made:
        world.docker("rm", "-f", "-v", *made, check=False)


def _until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


Run = Callable[..., str]


# Volumes --------------------------------------------------------------------------------------


def test_a_volume_is_made_shown_and_removed(world: plugin_world.World) -> None:
    world.create("first", "size=7M", "labels=a=1,b=2", "snapshot_interval=60")
    shown = world.inspect("first")
    volume = world.volumes.find("first")
    assert (shown["Driver"], shown["Scope"], shown["Mountpoint"]) == (world.name, "local", "")
    assert shown["Status"]["id"] == volume.id
    assert shown["Status"]["labels"] == {"a": "1", "b": "2"}
    assert shown["Status"]["size"] == volume.spec.size == 7 * 1024**2
    assert volume.spec.snapshot_interval == 60
    assert shown["CreatedAt"] == volume.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    listed = world.docker("volume", "ls", "-q", "-f", f"driver={world.name}").stdout
    assert listed.split() == ["first"]
    world.docker("volume", "rm", "first")
    assert world.volumes.list() == []


def test_what_was_made_by_others_can_be_used_and_removed(
    world: plugin_world.World, run: Run
) -> None:
    world.volumes.create("elsewhere")
    assert run("--rm", "-v", "elsewhere:/data", command="echo yes >/data/x; cat /data/x") == "yes"
    world.docker("volume", "rm", "elsewhere")
    assert world.volumes.list() == []


def test_data_outlive_their_container(world: plugin_world.World, run: Run) -> None:
    world.create("kept")
    run("--rm", "-v", "kept:/data", command="echo kept >/data/x")
    assert run("--rm", "-v", "kept:/data:ro", command="cat /data/x") == "kept"


def test_a_volume_is_made_by_running_a_container(world: plugin_world.World, run: Run) -> None:
    run("--rm", "--volume-driver", world.name, "-v", "made:/data", command="true")
    assert world.volumes.find("made").spec.size == 1000 * 1024**2
    mount = f"type=volume,src=by-mount,dst=/data,volume-driver={world.name},volume-opt=size=3M"
    run("--rm", "--mount", mount, command="true")
    assert world.volumes.find("by-mount").spec.size == 3 * 1024**2


@pytest.mark.parametrize("option", ["", ":nocopy"])
def test_content_of_the_image_is_copied_once_unless_unwanted(
    world: plugin_world.World, run: Run, option: str
) -> None:
    run("--rm", "--volume-driver", world.name, "-v", f"copied:/etc{option}", command="true")
    volume = world.volumes.find("copied")
    path = world.volumes.mount(volume.id)
    assert os.path.exists(os.path.join(path, "passwd")) == (option == "")
    world.volumes.unmount(volume.id)


def test_a_volume_begins_as_a_clone_of_a_volume_or_snapshot(
    world: plugin_world.World, run: Run
) -> None:
    world.create("origin", "size=5M")
    run("--rm", "-v", "origin:/data", command="echo one >/data/x")
    snapshot = world.volumes.snapshot(world.volumes.find("origin").id, "origin-then")
    run("--rm", "-v", "origin:/data", command="echo two >/data/x")
    world.create("by-name", "from=origin")
    world.create("by-id", f"from={snapshot.id}")
    assert run("--rm", "-v", "by-name:/data", command="cat /data/x") == "two"
    assert run("--rm", "-v", "by-id:/data", command="cat /data/x; echo new >/data/x") == "one"
    assert world.volumes.find("by-id").spec.size == 5 * 1024**2


def test_a_snapshot_is_mounted_as_it_was(world: plugin_world.World, run: Run) -> None:
    world.create("origin")
    run("--rm", "-v", "origin:/data", command="echo one >/data/x")
    world.volumes.snapshot(world.volumes.find("origin").id, "then")
    assert run("--rm", "-v", "then:/data", command="cat /data/x") == "one"


def test_six_creates_at_once_make_one_volume(world: plugin_world.World) -> None:
    plugin_world.at_once([lambda: world.create("one", "size=2M")] * 6)
    assert [volume.name for volume in world.volumes.list()] == ["one"]
    body = {"Name": "one", "Opts": {"size": "2M"}}
    answers: list[dict[str, object]] = []
    plugin_world.at_once([lambda: answers.append(world.ask("/VolumeDriver.Create", body))] * 6)
    assert answers == [{"Err": ""}] * 6
    assert len(world.volumes.list()) == 1


# Use ------------------------------------------------------------------------------------------


def test_a_volume_is_mounted_as_long_as_a_container_runs(
    world: plugin_world.World, run: Run
) -> None:
    world.create("shared")
    first, second = (run("-d", "-v", "shared:/data") for _ in range(2))
    assert world.counts() == [1, 1]
    path = world.inspect("shared")["Mountpoint"]
    assert path == str(world.mounts / "shared")
    assert world.ask("/VolumeDriver.Path", {"Name": "shared"})["Mountpoint"] == path
    world.docker("exec", first, "sh", "-c", "echo x >/data/both")
    assert world.docker("exec", second, "cat", "/data/both").stdout == "x\n"
    assert Path(path, "both").read_text() == "x\n"
    world.docker("rm", "-f", first)
    assert world.counts() == [1]
    refused = world.docker("volume", "rm", "shared", check=False)
    assert "in use" in refused.stderr
    world.docker("rm", "-f", second)
    assert world.counts() == []
    assert world.inspect("shared")["Mountpoint"] == ""


def test_copying_to_a_running_container_leaves_its_mount(
    world: plugin_world.World, run: Run, tmp_path: Path
) -> None:
    world.create("copied")
    container = run("-d", "-v", "copied:/data")
    (tmp_path / "file").write_text("from here")
    plugin_world.at_once(
        [lambda: world.docker("cp", str(tmp_path / "file"), f"{container}:/data/file")] * 3
    )
    world.docker("cp", f"{container}:/data/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "from here"
    assert world.counts() == [1]
    assert (world.mounts / "copied" / "file").read_text() == "from here"


def test_copying_to_a_stopped_container_leaves_nothing_mounted(
    world: plugin_world.World, run: Run, tmp_path: Path
) -> None:
    world.create("copied")
    container = run("-d", "-v", "copied:/data")
    world.docker("stop", "-t", "0", container)
    (tmp_path / "file").write_text("from here")
    world.docker("cp", str(tmp_path / "file"), f"{container}:/data/file")
    assert world.counts() == []
    world.docker("start", container)
    assert world.docker("exec", container, "cat", "/data/file").stdout == "from here"


def test_containers_restart_with_their_volume(world: plugin_world.World, run: Run) -> None:
    world.create("again")
    count = "echo $(( $(cat /data/n 2>/dev/null || echo 0) + 1 )) >/data/n; "
    # As `docker compose up -d` makes it, and its `restart`.
    container = run("-d", "--restart", "always", "-v", "again:/data", command=f"{count} sleep 3600")
    _until(lambda: world.docker("exec", container, "cat", "/data/n").stdout == "1\n")
    world.docker("restart", "-t", "0", container)
    _until(lambda: world.docker("exec", container, "cat", "/data/n").stdout == "2\n")
    world.docker("exec", container, "kill", "-9", "-1", check=False)
    says = ("exec", container, "cat", "/data/n")
    _until(lambda: world.docker(*says, check=False).stdout == "3\n")
    _until(lambda: world.counts() == [1])


def test_many_containers_at_once_count_right(world: plugin_world.World, run: Run) -> None:
    world.create("busy")
    plugin_world.at_once(
        [lambda: run("--rm", "-v", "busy:/data", command="echo x >>/data/all")] * 6
    )
    assert world.counts() == []
    volume = world.volumes.find("busy")
    path = world.volumes.mount(volume.id)
    assert Path(path, "all").read_text() == "x\n" * 6
    world.volumes.unmount(volume.id)


# What is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("sise=1G", "did you mean 'size'"),
        ("size=0", "can't be a size"),
        ("size=many", "can't be a size"),
        ("size=99999999T", "can't be a size"),
        ("from=nobody", "does not exist"),
        ("fs=zfs9", "zfs9"),
        ("labels=x", "no label"),
        ("cos=12", "class of service"),
    ],
)
def test_what_cant_be_made_is_refused_in_words(
    world: plugin_world.World, option: str, said: str
) -> None:
    argv = ("volume", "create", "-d", world.name, "-o", option, "wrong")
    refused = world.docker(*argv, check=False)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert world.volumes.list() == []


def test_the_same_name_with_other_options_is_refused(world: plugin_world.World) -> None:
    world.create("taken", "size=4M")
    body = {"Name": "taken", "Opts": {"size": "5M"}}
    assert "other options" in world.ask("/VolumeDriver.Create", body)["Err"]
    assert world.ask("/VolumeDriver.Create", {"Name": "taken", "Opts": None}) == {"Err": ""}


def test_a_volume_somebody_else_mounted_isnt_removed(world: plugin_world.World) -> None:
    world.create("held")
    volume = world.volumes.find("held")
    world.volumes.mount(volume.id)
    refused = world.docker("volume", "rm", "held", check=False)
    assert "Volume is" in refused.stderr
    world.volumes.unmount(volume.id)
    world.docker("volume", "rm", "held")


def test_a_volume_with_snapshots_isnt_removed(world: plugin_world.World) -> None:
    world.create("parent")
    world.volumes.snapshot(world.volumes.find("parent").id, "child")
    refused = world.docker("volume", "rm", "parent", check=False)
    assert "snapshots" in refused.stderr


def test_removing_again_is_no_error(world: plugin_world.World) -> None:
    assert world.ask("/VolumeDriver.Remove", {"Name": "gone"}) == {"Err": ""}
    assert world.ask("/VolumeDriver.Unmount", {"Name": "gone", "ID": "x"}) == {"Err": ""}


def test_the_socket_is_for_a_group_only(world: plugin_world.World) -> None:
    assert stat.S_IMODE(world.socket.stat().st_mode) == 0o660


def test_activation_and_capabilities(world: plugin_world.World) -> None:
    assert world.ask("/Plugin.Activate")["Implements"] == ["VolumeDriver"]
    assert world.ask("/VolumeDriver.Capabilities")["Capabilities"] == {"Scope": "local"}


ODD = [
    *(b"{", b"[]", b'"x"', b"7", b"\xff\xfe", b"[" * 100_000, b'{"Name": NaN}', b"null", b""),
    *(b'{"Name": %s}' % name for name in (b"7", b"null", b"[]", b'"../x"', b'"\\ud800"', b'"a/b"')),
    *(b'{"Name": "%s"}' % name for name in (b"..", b".", b"", b"a" * 10_000, b"a\\u0000b")),
    *(b'{"Name": "x", "ID": %s}' % each for each in (b"7", b'""', b'"../y"', b"{}", b'"a\\n"')),
    *(b'{"Name": "x", "Opts": %s}' % each for each in (b"7", b"[1]", b'{"size": 7}', b'{"": ""}')),
    b'{"Name": "x", "Opts": {"from": "../../etc"}, "ID": "7"}',
]
ROUTES = ["Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities"]


@pytest.mark.parametrize("route", ROUTES)
def test_odd_bodies_are_answered_in_the_protocols_form(
    world: plugin_world.World, route: str
) -> None:
    for body in ODD:
        status, answer = plugin_world.ask(world.socket, f"/VolumeDriver.{route}", body)
        assert status == 200
        assert "Traceback" not in answer["Err"]
        assert "Something went wrong" not in answer["Err"], body[:50]
        assert len(json.dumps(answer)) < 2000
    assert {volume.name for volume in world.volumes.list()} <= {"x"}


def test_other_routes_and_methods_are_answered_too(world: plugin_world.World) -> None:
    assert plugin_world.ask(world.socket, "/VolumeDriver.Magic")[0] == 404
    assert plugin_world.ask(world.socket, "/VolumeDriver.List", method="GET")[0] == 405
    big = b'{"Name": "' + b"a" * 2 * 1024**2 + b'"}'
    # Waitress says so, before the plugin is asked.
    with pytest.raises(json.JSONDecodeError):
        plugin_world.ask(world.socket, "/VolumeDriver.Get", big)


# What takes long ------------------------------------------------------------------------------


@pytest.fixture
def hang(world: plugin_world.World) -> Iterator[threading.Event]:
    """Every Mount waits for this."""
    go_on = threading.Event()
    backend = world.backend
    assert isinstance(backend, memory_volumes.MemoryVolumes)

    def wait(step: str, _volume_id: str) -> None:
        if step == "mount.done":
            go_on.wait(120)

    backend.hook = wait
    yield go_on
    go_on.set()
    backend.hook = lambda step, volume_id: None


def test_get_answers_while_mounts_hang(world: plugin_world.World, hang: threading.Event) -> None:
    for number in range(30):
        world.volumes.create(f"slow{number}")
    bodies = [{"Name": f"slow{number}", "ID": "cstest"} for number in range(30)]
    threads = [
        threading.Thread(target=world.ask, args=("/VolumeDriver.Mount", body, 120))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    _until(lambda: list(world.mounts.iterdir()))
    began = time.monotonic()
    for _ in range(20):
        assert world.ask("/VolumeDriver.Get", {"Name": "slow0"})["Err"] == ""
    assert time.monotonic() - began < 20
    assert not hang.is_set()
    hang.set()
    for thread in threads:
        thread.join()
    assert len(world.counts()) == 30
    for body in bodies:
        assert world.ask("/VolumeDriver.Unmount", body) == {"Err": ""}


def test_a_mount_whose_caller_went_is_undone(
    world: plugin_world.World, hang: threading.Event
) -> None:
    world.create("left")
    with pytest.raises(Exception, match="returned non-zero exit status 28"):
        world.ask("/VolumeDriver.Mount", {"Name": "left", "ID": "cstest"}, timeout=1)
    assert list(world.mounts.iterdir()) == [world.mounts / "left"]
    hang.set()
    _until(lambda: not list(world.mounts.iterdir()) and world.counts() == [])


def test_a_mount_that_others_share_stays_when_a_caller_went(
    world: plugin_world.World, hang: threading.Event
) -> None:
    world.create("left")
    hang.set()
    assert world.ask("/VolumeDriver.Mount", {"Name": "left", "ID": "stays"})["Err"] == ""
    hang.clear()
    world.volumes.create("other")
    with pytest.raises(Exception, match="returned non-zero exit status 28"):
        world.ask("/VolumeDriver.Mount", {"Name": "other", "ID": "goes"}, timeout=1)
    hang.set()
    _until(lambda: [use.holder for use in world.volumes.uses()] == ["stays"])
    world.ask("/VolumeDriver.Unmount", {"Name": "left", "ID": "stays"})


def test_a_mount_that_took_too_long_is_refused_and_undone(
    dockerd: plugin_world.PluginDockerd, tmp_path: Path
) -> None:
    with plugin_world.World(dockerd, tmp_path, patience=0.5).running() as world:
        assert isinstance(world.backend, memory_volumes.MemoryVolumes)
        world.backend.hook = lambda step, _id: time.sleep(1 if step == "mount" else 0)
        world.volumes.create("late")
        refused = world.ask("/VolumeDriver.Mount", {"Name": "late", "ID": "cstest"})
        assert "longer than Docker waits" in refused["Err"]
        assert world.counts() == []
        assert not list(world.mounts.iterdir())
        world.backend.hook = lambda step, _id: time.sleep(1 if step == "create" else 0)
        refused = world.ask("/VolumeDriver.Create", {"Name": "later", "Opts": {}})
        assert "longer than Docker waits" in refused["Err"]
        assert [volume.name for volume in world.volumes.list()] == ["late"]
