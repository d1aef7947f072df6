# SPDX-License-Identifier: Apache-2.0
"""Images are verified with the real engine and storlets' real gateway."""

import concurrent.futures
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.drivers import storlet_runtime
from container_stack.host import containers, images
from container_stack.storlets.verification import report, trial

from . import storlet_host as host
from .storlet_host import storlet_base as storlet_base
from .storlet_host import storlet_host as storlet_host
from .storlet_verifier import ACCOUNT, Build, Make, finding, leftovers, states
from .storlet_verifier import build as build
from .storlet_verifier import directory as directory
from .storlet_verifier import nothing_of_it_stays as nothing_of_it_stays
from .storlet_verifier import verifier as verifier

PACKAGES = "usr/lib/python3/dist-packages"
#: Needs a library that the base image doesn't have.
STORLET = b"""\
import cstest_shout


class Shout(object):
    def __init__(self, logger):
        self.logger = logger

    def __call__(self, in_files, out_files, params):
        metadata = dict(in_files[0].get_metadata(), Loud="yes")
        out_files[0].set_metadata(metadata)
        with open("/var/lib/storlets/shout.Shout/suffix.txt", "rb") as file:
            suffix = file.read()
        data = b"".join(iter(lambda: in_files[0].read(4096), b""))
        out_files[0].write(cstest_shout.shout(data) + params["mark"].encode() + suffix)
        out_files[0].close()
"""
LIBRARY = {f"{PACKAGES}/cstest_shout.py": b"def shout(data):\n    return data.upper()\n"}


@pytest.fixture
def storlet(tmp_path: pathlib.Path) -> trial.Trial:
    """The account's own storlet, and what must come out of it."""
    for name, data in (
        ("shout.py", STORLET),
        ("suffix.txt", b"?\n"),
        ("in", b"hello " * 30_000),
        ("out", b"HELLO " * 30_000 + b"!?\n"),
    ):
        (tmp_path / name).write_bytes(data)
    return trial.Trial(
        file=str(tmp_path / "shout.py"),
        main="shout.Shout",
        dependencies=(str(tmp_path / "suffix.txt"),),
        parameters={"mark": "!"},
        input=str(tmp_path / "in"),
        metadata={"Colour": "deep red"},
        output=str(tmp_path / "out"),
        output_metadata={"Colour": "deep red", "Loud": "yes"},
    )


def test_image_that_an_account_made_passes_all_checks(
    verifier: Make, storlet: trial.Trial, build: Build
) -> None:
    seen: dict[str, tuple[int, int | None]] = {}
    path = build(LIBRARY, names=["mine:1"])
    found = verifier().verify(
        str(path),
        ACCOUNT,
        trial=storlet,
        progress=lambda what, done, total: seen.update({what: (done, total)}),
    )
    assert found.passed, found
    assert states(found) == dict.fromkeys(range(1, 13), report.State.PASSED)
    assert found.account == ACCOUNT.name
    assert found.image_id.startswith("sha256:")
    assert found.size == path.stat().st_size
    assert "180003 bytes as expected" in finding(found, 12).detail
    assert {"Checking digests", "Loading", "Running: storlet"} <= set(seen)
    # The engine has the base: no more is sent than the layer over it.
    assert seen["Loading"][0] == seen["Loading"][1] < 64 * 1024
    assert report.Report.from_json(found.to_json()) == found


def test_storlet_whose_library_the_image_lacks_fails_alone(
    verifier: Make, storlet: trial.Trial, build: Build
) -> None:
    path = build()
    found = verifier().verify(str(path), ACCOUNT, trial=storlet)
    assert not found.passed
    assert [n for n, state in states(found).items() if state is not report.State.PASSED] == [12]
    assert "shout.Shout can't run" in finding(found, 12).detail


def test_storlet_that_nobody_gave_is_skipped(verifier: Make) -> None:
    found = verifier().verify(str(host.base_archive()), ACCOUNT)
    assert found.passed
    assert finding(found, 12).state is report.State.SKIPPED


def test_bad_image_is_told_all_that_is_wrong_and_isnt_run(verifier: Make, build: Build) -> None:
    path = build(
        {"json.py": b"", "usr/bin/.wh.logger": b"", "usr/bin/.wh.python3": b""},
        config={"Cmd": ["sh"], "Env": ["PATH=/usr/bin", "PYTHONHOME=/opt"]},
    )
    found = verifier().verify(str(path), ACCOUNT)
    bad = {n for n, state in states(found).items() if state is report.State.FAILED}
    assert bad == {4, 5, 6, 7, 8}
    assert all(each.cure for each in found.findings if each.number in bad)
    assert {states(found)[n] for n in (9, 10, 12)} == {report.State.SKIPPED}
    assert finding(found, 9).detail == "It wasn't run, as it failed 4, 5, 6, 7, 8."


def test_damaged_archive_fails_the_first_check(verifier: Make, build: Build) -> None:
    path = build(LIBRARY)
    with path.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)
        file.seek(50_000_000)
        file.write(bytes([byte[0] ^ 1]))
    found = verifier().verify(str(path), ACCOUNT)
    assert {n for n, state in states(found).items() if state is report.State.FAILED} == {1}
    assert {states(found)[n] for n in (2, 8, 9, 12)} == {report.State.SKIPPED}


def test_what_is_no_archive_is_reported(verifier: Make, tmp_path: pathlib.Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"no archive")
    found = verifier().verify(str(tmp_path / "image.tar"), ACCOUNT)
    assert (found.passed, found.image_id, len(found.findings)) == (False, "", 12)
    with pytest.raises(exceptions.InvalidRequest, match=r"none\.tar"):
        verifier().verify(str(tmp_path / "none.tar"), ACCOUNT)


def test_image_without_limits_is_never_run(verifier: Make) -> None:
    found = verifier({}).verify(str(host.base_archive()), ACCOUNT)
    assert finding(found, 11).state is report.State.FAILED
    assert "container_pids_limit" in finding(found, 11).cure
    assert finding(found, 9).state is report.State.SKIPPED


def test_name_of_somebody_elses_image_is_told_and_not_taken(
    verifier: Make, engine: containers.Engine, busybox_image: str, build: Build
) -> None:
    before = images.Images(engine).find(busybox_image)
    path = build(LIBRARY, names=[busybox_image, "a:b"])
    found = verifier().verify(str(path), ACCOUNT)
    assert found.passed
    assert finding(found, 2).state is report.State.WARNING
    assert busybox_image in finding(found, 2).detail
    assert images.Images(engine).find(busybox_image) == before
    assert images.Images(engine).find("a:b") is None


def test_image_that_is_in_use_stays(
    verifier: Make, engine: containers.Engine, name: str, build: Build
) -> None:
    path = build(LIBRARY)
    with path.open("rb") as file:
        [image] = images.Images(engine).load(file)
    images.Images(engine).tag(image.id, name)
    try:
        assert verifier().verify(str(path), ACCOUNT).passed
        kept = images.Images(engine).find(image.id)
        assert kept is not None
        assert kept.tags == (f"{name}:latest",)
    finally:
        images.Images(engine).remove(name)


def test_engine_without_the_base_is_sent_all(
    verifier: Make, make_dockerd: Callable[..., Any], build: Build
) -> None:
    other = containers.Engine(make_dockerd().url)
    path = build(LIBRARY)
    sent = []
    found = verifier(where=other).verify(
        str(path), ACCOUNT, progress=lambda what, done, _: sent.append((what, done))
    )
    assert found.passed, found
    assert max(done for what, done in sent if what == "Loading") > 50_000_000
    assert not leftovers(other)
    assert images.Images(other).find(found.image_id) is None
    other.close()


def test_two_may_verify_the_same_image_at_once(verifier: Make, build: Build) -> None:
    path = build(LIBRARY)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: verifier().verify(str(path), ACCOUNT), range(2)))
    assert [each.passed for each in found] == [True, True], found


def test_python_without_storlets_is_the_hosts_fault(verifier: Make) -> None:
    runtime = storlet_runtime.GatewayRuntime(python="/usr/bin/python3")
    with pytest.raises(exceptions.HostNotReady, match="gateway doesn't run here"):
        verifier(runtime=runtime).verify(str(host.base_archive()), ACCOUNT)


def test_engine_that_is_gone_is_no_fault_of_the_image(verifier: Make) -> None:
    other = containers.Engine("unix:///nowhere/docker.sock")
    with pytest.raises(exceptions.EngineUnavailable):
        verifier(where=other).verify(str(host.base_archive()), ACCOUNT)


def test_sandbox_runs_as_swifts_user(
    verifier: Make, tmp_path: pathlib.Path, storlet: trial.Trial, build: Build
) -> None:
    source = STORLET.replace(b'Loud="yes"', b'Loud=str(__import__("os").getuid())')
    (tmp_path / "shout.py").write_bytes(source)
    (tmp_path / "shout.py").chmod(0o600)
    tmp_path.chmod(0o700)
    wanted = {"Colour": "deep red", "Loud": "65534"}
    path = build(LIBRARY)
    runtime = storlet_runtime.GatewayRuntime(user="nobody")
    found = verifier(runtime=runtime).verify(
        str(path),
        ACCOUNT,
        trial=trial.Trial(
            file=storlet.file,
            main=storlet.main,
            dependencies=storlet.dependencies,
            parameters=storlet.parameters,
            input=storlet.input,
            metadata=storlet.metadata,
            output_metadata=wanted,
        ),
    )
    assert found.passed, found
