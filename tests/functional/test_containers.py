# SPDX-License-Identifier: Apache-2.0
"""Containers on the engine of this machine."""

import contextlib
import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path

import pytest
import requests
from docker.transport import unixconn

from container_stack import exceptions
from container_stack.host import containers

from . import busybox
from .conftest import MakeSpec

Engine = containers.Engine


@contextlib.contextmanager
def counted_calls(engine: Engine) -> Iterator[list[str]]:
    """Collect the URLs of the HTTP calls that the engine's client makes in the body."""
    calls: list[str] = []

    def hook(answer: requests.Response, *_args: object, **_kwargs: object) -> None:
        calls.append(str(answer.url))

    with engine.connection.use() as client:
        client.hooks["response"].append(hook)
    try:
        yield calls
    finally:
        with engine.connection.use() as client:
            client.hooks["response"].remove(hook)


# A container's life


def test_container_lives_from_create_to_remove(engine: Engine, make_spec: MakeSpec) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    spec = make_spec(command=["sh", "-c", script])
    with engine.creating(spec) as container_id:
        created = engine.inspect(spec.name)
        assert (created.id, created.name, created.state) == (container_id, spec.name, "created")
        assert (created.pid, created.exit_code, created.started_at) == (None, None, None)
        engine.start(container_id)
        engine.start(container_id)
        running = engine.inspect(container_id)
        assert running.state == "running"
        assert running.pid
        assert os.path.isdir(f"/proc/{running.pid}")
        assert running.exit_code is None
        assert running.started_at is not None
        assert abs(running.started_at.timestamp() - time.time()) < 30
        assert running.labels == spec.labels
        while b"ready" not in engine.logs(container_id):
            time.sleep(0.05)
        engine.stop(container_id, timeout=10)
        engine.stop(container_id)
        stopped = engine.inspect(container_id)
        assert (stopped.state, stopped.exit_code, stopped.pid) == ("exited", 7, None)
        engine.remove(container_id)
        engine.remove(container_id)
    with pytest.raises(exceptions.NotFound, match=container_id):
        engine.inspect(container_id)


def test_signal_reaches_process_one(engine: Engine, make_spec: MakeSpec) -> None:
    container_id = engine.run(make_spec(command=["sleep", "100"], init=False))
    engine.kill(container_id)
    deadline = time.monotonic() + 5
    while engine.inspect(container_id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.inspect(container_id).exit_code == 137
    with pytest.raises(exceptions.Busy, match="not running"):
        engine.kill(container_id)
    engine.remove(container_id)


def test_rename_is_seen_and_a_taken_name_is_refused(
    engine: Engine, make_spec: MakeSpec, container: str, name: str
) -> None:
    engine.rename(container, f"{name}-new")
    assert engine.inspect(container).name == f"{name}-new"
    with engine.creating(make_spec()) as other:
        with pytest.raises(exceptions.AlreadyExists, match="in use"):
            engine.rename(container, name)
        engine.remove(other)


def test_name_in_use_is_refused(engine: Engine, make_spec: MakeSpec, container: str) -> None:
    with pytest.raises(exceptions.AlreadyExists, match="in use"):
        engine.create(make_spec())
    assert engine.inspect(container).state == "running"


def test_missing_image_is_named(engine: Engine, make_spec: MakeSpec) -> None:
    with pytest.raises(exceptions.NotFound, match=r"cstest-nosuch:7.*import"):
        engine.create(make_spec(image="cstest-nosuch:7"))


def test_failed_start_leaves_no_container(engine: Engine, make_spec: MakeSpec, name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="no-such-program"):
        engine.run(make_spec(command=["no-such-program"], init=False))
    assert name not in {each.name for each in engine.list()}


def test_removal_of_a_running_container_needs_force(engine: Engine, container: str) -> None:
    with pytest.raises(exceptions.Busy):
        engine.remove(container, force=False)
    assert engine.inspect(container).state == "running"


def test_many_may_remove_one_container(engine: Engine, container: str) -> None:
    with futures.ThreadPoolExecutor(8) as pool:
        for removal in [pool.submit(engine.remove, container) for _ in range(8)]:
            removal.result()
    with pytest.raises(exceptions.NotFound):
        engine.inspect(container)


@pytest.mark.parametrize("bad", ["", "..", "../networks", "a//b"])
def test_ids_that_would_lead_elsewhere_are_refused(engine: Engine, bad: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        engine.inspect(bad)
    with pytest.raises(exceptions.InvalidRequest):
        engine.remove(bad)


# What a spec grants


def test_container_gets_what_its_spec_says_and_no_more(engine: Engine, make_spec: MakeSpec) -> None:
    spec = make_spec(
        environment={"GREETING": "hello = world"},
        hostname="somehost",
        capabilities=["CHOWN", "KILL"],
        read_only_root=True,
        limits=containers.Limits(memory=64 * 1024**2, pids=37),
        user="1000:1000",
        ulimits={"nofile": (123, 456)},
        sysctls={"net.ipv4.ip_unprivileged_port_start": "300"},
        mounts=[containers.Mount("", "/scratch", "tmpfs", size=1024**2, mode=0o1777)],
    )
    script = (
        "hostname; echo $GREETING; id -u; ulimit -Sn; ulimit -Hn; "
        "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status; cat /proc/sys/net/ipv4/"
        "ip_unprivileged_port_start; touch /x 2>/dev/null; echo root $?; touch /scratch/x; "
        "echo scratch $?; df -k /scratch | tail -1; ls /sys/class/net"
    )
    container_id = engine.run(spec)
    lines = engine.exec(container_id, ["sh", "-c", script]).stdout.decode().splitlines()
    limits = subprocess.run(
        ["docker", "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}", spec.name],
        check=True,
        capture_output=True,
        text=True,
    )
    engine.remove(container_id)
    assert lines[:5] == ["somehost", "hello = world", "1000", "123", "456"]
    # CHOWN is bit 0, KILL bit 5.
    assert [line.split() for line in lines[5:7]] == [
        ["CapBnd:", "0000000000000021"],
        ["NoNewPrivs:", "1"],
    ]
    assert lines[7:10] == ["300", "root 1", "scratch 0"]
    assert lines[10].split()[1] == "1024"
    assert lines[11:] == ["lo"]
    assert limits.stdout.split() == [str(64 * 1024**2), "37"]


def test_read_only_bind_leaves_mounts_below_it_writable(
    engine: Engine, make_spec: MakeSpec, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    inner = tmp_path / "inner"
    inner.mkdir()
    bind = containers.Mount(str(tmp_path), "/outer", read_only=True)
    subprocess.run(["mount", "-t", "tmpfs", "cstest", inner], check=True)
    try:
        container_id = engine.run(make_spec(mounts=[bind]))
        outside = engine.exec(container_id, ["touch", "/outer/file"])
        inside = engine.exec(container_id, ["touch", "/outer/inner/file"])
        mounts = engine.inspect(container_id).mounts
        engine.remove(container_id)
        written = sorted(os.listdir(inner))
    finally:
        subprocess.run(["umount", inner], check=True)
    assert outside.exit_code == 1
    assert b"Read-only" in outside.stderr
    assert inside.exit_code == 0
    assert written == ["file"]
    assert [(each.source, each.target, each.read_only) for each in mounts] == [
        (str(tmp_path), "/outer", True)
    ]


def test_bind_of_a_missing_directory_is_refused(
    engine: Engine, make_spec: MakeSpec, tmp_path: Path, name: str
) -> None:
    bind = containers.Mount(str(tmp_path / "missing"), "/mnt")
    with pytest.raises(exceptions.InvalidRequest, match="missing"):
        engine.run(make_spec(mounts=[bind]))
    assert not (tmp_path / "missing").exists()
    assert name not in {each.name for each in engine.list()}


# Lists


def test_list_is_one_call_whatever_the_number(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    mine = {"container_stack.id": name}
    with contextlib.ExitStack() as undo:
        for number in range(5):
            container_id = engine.create(
                make_spec(name=f"{name}-{number}", labels={**mine, "number": str(number)})
            )
            undo.callback(engine.remove, container_id)
        engine.start(f"{name}-3")
        engine.start(f"{name}-4")
        engine.kill(f"{name}-4")
        with counted_calls(engine) as calls:
            found = {each.name: each for each in engine.list({"container_stack.id": name})}
        assert len(calls) == 1
        assert sorted(found) == [f"{name}-{number}" for number in range(5)]
        assert found[f"{name}-2"].state == "created"
        assert found[f"{name}-2"].exit_code is None
        assert found[f"{name}-3"].state == "running"
        assert found[f"{name}-4"].exit_code == engine.inspect(f"{name}-4").exit_code
        assert found[f"{name}-4"].labels["number"] == "4"
        both = {"container_stack.id": name, "number": "2"}
        assert [each.name for each in engine.list(both)] == [f"{name}-2"]
        any_value: Mapping[str, str | None] = {**mine, "number": None}
        assert len(engine.list(any_value)) == 5
        assert engine.list({**mine, "number": "9"}) == []


# Logs and archives


def test_logs_hold_both_streams_and_can_be_cut(engine: Engine, make_spec: MakeSpec) -> None:
    script = "echo one; echo two >&2; echo three; exec sleep 100"
    container_id = engine.run(make_spec(command=["sh", "-c", script]))
    deadline = time.monotonic() + 5
    while len(engine.logs(container_id)) < 14 and time.monotonic() < deadline:
        time.sleep(0.02)
    everything, last = engine.logs(container_id), engine.logs(container_id, tail=1)
    engine.remove(container_id)
    assert sorted(everything.splitlines()) == [b"one", b"three", b"two"]
    assert last in (b"three\n", b"two\n")


def test_archive_comes_back_as_it_went(engine: Engine, make_spec: MakeSpec) -> None:
    content = os.urandom(3_000_001)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        busybox.add_file(tar, "blob", content)
    with engine.creating(make_spec()) as container_id:
        engine.put_archive(container_id, "/etc", buffer.getvalue())
        back = io.BytesIO(b"".join(engine.get_archive(container_id, "/etc/blob")))
        with pytest.raises(exceptions.NotFound):
            engine.put_archive(container_id, "/nowhere", buffer.getvalue())
        with pytest.raises(exceptions.NotFound):
            list(engine.get_archive(container_id, "/nowhere"))
        engine.remove(container_id)
    with tarfile.open(fileobj=back) as tar:
        member = tar.extractfile("blob")
        assert member is not None
        assert member.read() == content


# Threads and processes


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every connection to an engine's socket that the SDK opens from now on."""
    connections: list[object] = []
    connect = unixconn.UnixHTTPConnection.connect

    def counting(connection: unixconn.UnixHTTPConnection) -> None:
        connections.append(connection)
        connect(connection)

    monkeypatch.setattr(unixconn.UnixHTTPConnection, "connect", counting)
    return connections


def test_calls_one_after_another_share_one_connection(
    engine: Engine, container: str, opened: list[object]
) -> None:
    own = Engine(engine.connection.url)
    for number in range(30):
        own.list({"container_stack.id": f"none-{number}"})
        own.inspect(container)
        own.exec(container, ["true"])
        list(own.get_archive(container, "/etc/passwd"))
    own.close()
    assert len(opened) == 1


def test_64_threads_may_share_an_engine(
    engine: Engine, container: str, opened: list[object]
) -> None:
    own = Engine(engine.connection.url)
    barrier = threading.Barrier(64)

    def work(number: int) -> int:
        barrier.wait()
        for turn in range(5):
            assert own.inspect(container).id == container
            assert own.list({"container_stack.id": f"none-{number}-{turn}"}) == []
        return number

    with futures.ThreadPoolExecutor(64) as pool:
        assert sorted(pool.map(work, range(64))) == list(range(64))
    own.close()
    # 640 calls; one more for asking the version.
    assert len(opened) <= 65


def test_16_commands_at_once_keep_their_output_apart(engine: Engine, container: str) -> None:
    def echo(number: int) -> bytes:
        return engine.exec(container, ["sh", "-c", "cat"], stdin=b"%d;" % number * 10_000).stdout

    with futures.ThreadPoolExecutor(16) as pool:
        for number, output in enumerate(pool.map(echo, range(16))):
            assert output == b"%d;" % number * 10_000


def run_forked(work: Callable[[], None]) -> int:
    """Start a child that does the work and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as exc:
        os.write(2, f"child: {exc!r}\n".encode())
        os._exit(1)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forked_children_use_connections_of_their_own(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    with contextlib.ExitStack() as undo:
        ids = {}
        for number in range(4):
            ids[number] = engine.create(make_spec(name=f"{name}-{number}"))
            undo.callback(engine.remove, ids[number])

        def work(number: int) -> None:
            for _ in range(100):
                # Answers meant for another process would tell of another container.
                assert engine.inspect(f"{name}-{number}").id == ids[number]

        children = [run_forked(lambda number=number: work(number)) for number in (1, 2, 3)]  # type: ignore[misc]
        work(0)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_child_forked_while_another_thread_connects_can_connect(tmp_path: Path) -> None:
    with silent_server(tmp_path) as url:
        own = Engine(url, timeout=2)
        thread = threading.Thread(target=attempt, args=(own.version,))
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        child = run_forked(lambda: attempt(own.version))
        assert os.waitpid(child, 0)[1] == 0
        # It waits for the silent server, and not for the parent's lock, for ever.
        assert 1.5 < time.monotonic() - started < 60
        thread.join()


def attempt(call: Callable[[], object]) -> None:
    with contextlib.suppress(exceptions.EngineUnavailable):
        call()


# Events


def test_events_tell_a_container_life_in_order(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    spec = make_spec(labels={"container_stack.id": name})
    with engine.events({"container_stack.id": name}) as events:
        before = time.time()
        container_id = engine.run(spec)
        engine.remove(container_id)
        seen = []
        for event in events:
            seen.append(event)
            if event.action == "destroy":
                break
    actions = [event.action for event in seen]
    assert [each for each in actions if each in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]
    assert {event.container_id for event in seen} == {container_id}
    assert {event.name for event in seen} == {name}
    assert seen[0].labels["container_stack.id"] == name
    assert before - 1 < seen[0].time < time.time() + 1


def test_events_since_a_time_begin_with_what_was_missed(
    engine: Engine, make_spec: MakeSpec, name: str
) -> None:
    spec = make_spec(labels={"container_stack.id": name})
    container_id = engine.create(spec)
    engine.start(container_id)
    with engine.events({"container_stack.id": name}, since=time.time() - 60) as events:
        first, second = next(events), next(events)
    with engine.events({"container_stack.id": name}, since=second.time) as events:
        again = next(events)
    engine.remove(container_id)
    assert (first.action, second.action) == ("create", "start")
    assert again == second


def test_closing_events_ends_the_wait_of_another_thread(engine: Engine) -> None:
    events = engine.events({"container_stack.id": "nobody"})
    seen: list[containers.Event] = []
    thread = threading.Thread(target=lambda: seen.extend(events))
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    events.close()
    events.close()
    thread.join(5)
    assert not thread.is_alive()
    assert seen == []


# Volumes


def test_volume_outlives_its_containers_and_is_removed_once(
    engine: Engine, make_spec: MakeSpec, name: str, test_labels: Mapping[str, str]
) -> None:
    labels = {**test_labels, "container_stack.id": name}
    assert engine.create_volume(name, labels) == containers.Volume(name, labels)
    assert engine.create_volume(name, {**test_labels, "other": "1"}).labels == labels
    spec = make_spec(mounts=[containers.Mount(name, "/data", "volume")])
    with engine.creating(spec) as container_id:
        assert [(each.source, each.kind) for each in engine.inspect(container_id).mounts] == [
            (name, "volume")
        ]
        with pytest.raises(exceptions.Busy, match="in use"):
            engine.remove_volume(name)
        engine.remove(container_id)
    assert [each.name for each in engine.list_volumes({"container_stack.id": name})] == [name]
    engine.remove_volume(name)
    engine.remove_volume(name)
    assert engine.list_volumes({"container_stack.id": name}) == []


# An engine that isn't there


def test_constructor_contacts_nobody_and_the_cure_is_named(tmp_path: Path) -> None:
    absent = Engine(f"unix://{tmp_path}/absent")
    with pytest.raises(exceptions.EngineUnavailable, match="start dockerd or correct the URL"):
        absent.version()


def test_socket_without_a_server_is_named(tmp_path: Path) -> None:
    with silent_server(tmp_path) as url:
        pass
    with pytest.raises(exceptions.EngineUnavailable, match=r"listens.*start dockerd"):
        Engine(url).list()


def test_port_without_a_server_is_named() -> None:
    with pytest.raises(exceptions.EngineUnavailable, match=r"127\.0\.0\.1:1; start dockerd"):
        Engine("tcp://127.0.0.1:1").list()


def test_silent_engine_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with silent_server(tmp_path) as url:
        started = time.monotonic()
        with pytest.raises(exceptions.EngineUnavailable, match="no answer in time"):
            Engine(url, timeout=0.5).list()
        assert time.monotonic() - started < 20


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_user_who_may_not_open_the_socket_learns_the_cure(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    with silent_server(tmp_path) as url:
        os.chmod(url.removeprefix("unix://"), 0o600)
        for directory in (tmp_path, *tmp_path.parents):
            mode = directory.stat().st_mode
            if not mode & 0o001:
                os.chmod(directory, mode | 0o011)

        def as_nobody() -> None:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with pytest.raises(exceptions.EngineUnavailable, match="group docker"):
                Engine(url).version()

        assert os.waitpid(run_forked(as_nobody), 0)[1] == 0


@contextlib.contextmanager
def silent_server(directory: Path) -> Iterator[str]:
    """A socket on which somebody listens and nobody answers; afterwards only its file."""
    path = f"{directory}/sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(64)
        yield f"unix://{path}"
