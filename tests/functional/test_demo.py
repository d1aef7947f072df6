# SPDX-License-Identifier: Apache-2.0
"""The demo: it keeps its promises, sees broken ones, and leaves nothing whatever happens."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container_stack.cmd.demo import smb
from container_stack.host import containers, images, mounts

from .normal_user import normal_user

pytest.importorskip("manila")

DEMO = (sys.executable, "-m", "container_stack.cmd.main", "demo")
#: Samba as our image never has it.
OPEN = """\
[global]
map to guest = bad user
server smb encrypt = off
cache directory = /run
lock directory = /run
pid directory = /run
ncalrpc dir = /run/ncalrpc
private dir = /run
state directory = /run
[open]
path = /shares
guest ok = yes
"""


Ended = subprocess.CompletedProcess[str]


@contextlib.contextmanager
def temporary_place() -> Iterator[Path]:
    """Lend a directory for temporary files that every user may use; it must be empty after."""
    directory = Path(tempfile.mkdtemp(prefix="cstest-", dir="/tmp"))
    directory.chmod(0o1777)
    yield directory
    end = time.monotonic() + 10  # a root helper goes when it sees that its client went
    while (left := list(directory.iterdir())) and time.monotonic() < end:
        time.sleep(0.1)
    shutil.rmtree(directory, ignore_errors=True)
    assert left == []


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_place() as directory:
        yield directory


@pytest.fixture(autouse=True)
def engine_is_as_before(engine: containers.Engine) -> Iterator[None]:
    yield
    owned = {"container_stack.owner": None}
    things = [*engine.list(owned), *engine.list_volumes(owned), *engine.list_networks(owned)]
    owners = [each.labels["container_stack.owner"] for each in things]
    assert [owner for owner in owners if owner.startswith("manila-demo-")] == []


def run(place: Path, *words: str, user: list[str] | None = None, system: str = "manila") -> Ended:
    argv = [*(user or []), *DEMO, "-f", "json", *words, system]
    environment = {**os.environ, "TMPDIR": str(place)}
    # Not in the checkout: it may lie where this user can't go.
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=300, env=environment, cwd=place
    )


@contextlib.contextmanager
def started(place: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*DEMO, *words, "manila"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the demo ended without {pattern!r}: {''.join(said)}")


def results(ended: Ended) -> Mapping[str, str]:
    return {step["Step"]: step["Result"] for step in json.loads(ended.stdout)}


@pytest.fixture(scope="module")
def first(engine: containers.Engine, session_id: str) -> Iterator[tuple[str, Ended]]:
    """The name of an image that was missing, and the demo that built it."""
    reference = f"cstest-demo-samba:{session_id}"
    with temporary_place() as place:
        yield reference, run(place, "--image", reference)
    images.Images(engine).remove(reference)


@pytest.fixture
def samba_image(first: tuple[str, Ended]) -> str:
    return first[0]


def test_every_step_is_as_promised(place: Path, first: tuple[str, Ended]) -> None:
    _reference, ended = first
    assert ended.returncode == 0, ended.stderr
    assert set(results(ended).values()) == {"ok"}
    assert len(results(ended)) == 14
    assert "\x1b" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_image_is_built_with_progress(first: tuple[str, Ended]) -> None:
    _reference, ended = first
    for phase in ("download", "unpack", "import"):
        assert re.search(rf"{phase} +[0-9.]+ of [0-9.]+ MiB", ended.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a user needs root")
def test_every_step_is_as_promised_for_a_normal_user_with_sudo(
    place: Path, samba_image: str
) -> None:
    with normal_user(sudo=True) as user:
        ended = run(place, "--image", samba_image, user=tuple(user))
    assert ended.returncode == 0, ended.stderr
    assert set(results(ended).values()) == {"ok"}


@pytest.mark.skipif(os.geteuid() != 0, reason="making a user needs root")
def test_without_sudo_the_demo_stops_and_names_the_cure(place: Path, samba_image: str) -> None:
    with normal_user(sudo=False) as user:
        ended = run(place, "--image", samba_image, user=tuple(user))
    assert ended.returncode == 1
    assert list(results(ended).values()) == ["ok", "ok", "FAILED"]
    assert "sudo -v" in ended.stderr


def test_an_image_becomes_a_server_and_that_an_image(place: Path, samba_image: str) -> None:
    ended = run(place, "--image", samba_image, system="nova")
    assert ended.returncode == 0, ended.stderr
    assert set(results(ended).values()) == {"ok"}
    assert len(results(ended)) == 14
    assert list(place.iterdir()) == []


def test_an_image_goes_to_an_array_and_back(place: Path, samba_image: str) -> None:
    ended = run(place, "--image", samba_image, system="glance")
    assert ended.returncode == 0, ended.stderr
    assert set(results(ended).values()) == {"ok"}
    assert len(results(ended)) == 11


@pytest.mark.skipif(os.geteuid() != 0, reason="an engine of its own needs root")
def test_a_volume_goes_through_containers(place: Path, samba_image: str) -> None:
    ended = run(place, "--image", samba_image, system="osd")
    assert ended.returncode == 0, ended.stderr
    assert set(results(ended).values()) == {"ok"}
    assert len(results(ended)) == 14
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="making a user needs root")
def test_open_storage_is_shown_to_root_only(place: Path, samba_image: str) -> None:
    with normal_user(sudo=True) as user:
        ended = run(place, "--image", samba_image, user=tuple(user), system="osd")
    assert ended.returncode == 1
    assert "run it as root" in ended.stderr


def test_an_unknown_system_is_refused(place: Path) -> None:
    ended = run(place, system="cinder")
    assert ended.returncode == 1
    assert "there are: manila, nova, glance, osd" in ended.stderr


def test_an_engine_that_is_down_fails_the_demo(place: Path) -> None:
    ended = run(place, "--docker-url", "unix:///no/such/socket")
    assert ended.returncode == 1
    assert list(results(ended).values()) == ["FAILED"]


@pytest.mark.parametrize("step", ["Create a share server", "Create a share", "Alice writes"])
def test_a_demo_that_is_stopped_leaves_nothing(place: Path, samba_image: str, step: str) -> None:
    with started(place, "--image", samba_image) as process:
        wait_for(process, step)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert mounts.below(str(place)) == []


def test_what_is_kept_can_be_used_until_the_demo_is_told_to_go_on(
    place: Path, samba_image: str
) -> None:
    with started(place, "--image", samba_image, "--keep") as process:
        found = wait_for(process, r"The share is (\S+), user (\S+), password (\S+)")
        location, user, key = found.groups()
        with smb.Client(location.replace("/", "\\"), user, key) as client:
            client.write("mine", b"asymmetric")
            assert client.read("mine") == b"asymmetric"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_the_demo_would_see_a_server_that_lets_everybody_in(
    engine: containers.Engine, samba_image: str, name: str, tmp_path: Path, test_labels: object
) -> None:
    conf = tmp_path / "smb.conf"
    conf.write_text(OPEN, encoding="utf-8")
    memory = ("/run", "/tmp", "/var/lib/samba", "/shares")
    spec = containers.ContainerSpec(
        name=name,
        image=samba_image,
        labels=test_labels,  # type: ignore[arg-type]
        network="bridge",
        mounts=(
            containers.Mount(str(conf), "/etc/samba/smb.conf"),
            *(containers.Mount("", each, kind="tmpfs", mode=0o777) for each in memory),
        ),
        capabilities=("SETUID", "SETGID", "NET_BIND_SERVICE", "DAC_OVERRIDE", "CHOWN", "FOWNER"),
    )
    container_id = engine.run(spec)
    try:
        address = engine.inspect(container_id).addresses["bridge"][0]
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                assert not smb.anonymous_refused(f"\\\\{address}\\open")
                return
            time.sleep(0.1)
        raise AssertionError(engine.logs(container_id, 20))
    finally:
        engine.remove(container_id)
