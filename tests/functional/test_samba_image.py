# SPDX-License-Identifier: Apache-2.0
"""The share servers' image, made on this host from Debian packages."""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.shares import debian, image

from .share_server import samba_image as samba_image


def quiet(phase: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def progress() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, progress: list[tuple[str, int, int]]) -> Path:
    """The packages, unpacked."""

    def report(*values: str | int) -> None:
        progress.append(values)  # type: ignore[arg-type]

    directory = tmp_path_factory.mktemp("image")
    debs = debian.download(image.PACKAGES, directory, report)
    debian.unpack(debs, directory / "root", report)
    return directory / "root"


def archive(root: Path) -> bytes:
    stream = io.BytesIO()
    image.write(stream, root)
    return stream.getvalue()


def test_image_says_what_it_is(engine: containers.Engine, samba_image: str) -> None:
    found = images.Images(engine).find(samba_image)
    assert found is not None
    assert found.labels == {
        "container_stack.image": "samba",
        "container_stack.image.version": str(image.VERSION),
    }
    assert found.size < 100e6


def test_same_packages_give_the_same_bytes(root: Path) -> None:
    digests = {hashlib.sha256(archive(root)).hexdigest() for _ in range(2)}
    assert len(digests) == 1


def test_archive_holds_nothing_of_this_host_and_nothing_that_gives_privileges(root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(root))) as tar:
        members = tar.getmembers()
    assert {(each.uid, each.gid, each.mtime) for each in members} == {(0, 0, 0)}
    assert not [each.name for each in members if each.mode & 0o6000 or each.isdev()]
    links = [each.linkname for each in members if each.issym()]
    assert not [link for link in links if link.startswith("/") or str(root) in link]


def test_every_program_in_the_image_starts(engine: containers.Engine, samba_image: str) -> None:
    script = 'for each in "$@"; do ldd=$(/usr/lib64/ld-linux-*.so.2 --list $each) || exit 1; done'
    argv = ["sh", "-c", script, "sh", *(f"/{each}" for each in image.PROGRAMS)]
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "/usr/bin/busybox", samba_image, *argv],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_progress_tells_phases_and_bytes(root: Path, progress: list[tuple[str, int, int]]) -> None:
    phases = {phase: (done, total) for phase, done, total in progress}
    assert list(phases) == ["resolve", "download", "unpack"]
    assert all(done == total for done, total in phases.values())
    assert phases["download"][1] > 10e6
    for phase in phases:
        amounts = [done for each, done, _total in progress if each == phase]
        assert amounts == sorted(amounts)


def test_package_that_no_release_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(exceptions.HostNotReady, match="container-stack-no-such-package"):
        debian.download(["container-stack-no-such-package"], tmp_path, quiet)


def test_mirror_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(exceptions.CommandFailed, match="mirror"):
        debian.download(["tini"], tmp_path, quiet)


def test_host_without_apt_is_told_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(exceptions.HostNotReady, match="Dockerfile"):
        debian.download(["tini"], tmp_path, quiet)


def test_missing_library_is_noticed(root: Path) -> None:
    libraries = debian.Libraries(root)
    (found,) = libraries.directory.glob("libtalloc.so.2")
    os.rename(found, f"{found}.away")
    try:
        with pytest.raises(exceptions.HostNotReady):
            libraries.needed(root / "usr/sbin/smbd")
    finally:
        os.rename(f"{found}.away", found)


def test_dockerfile_makes_the_same_image_from_the_same_files() -> None:
    lines = (Path(image.__file__).with_suffix("") / "Dockerfile").read_text().splitlines()
    assert f"LABEL {' '.join(f'{key}={value}' for key, value in image.LABELS.items())}" in lines
    for change in image.CHANGES:
        if not change.startswith("LABEL"):
            assert change.replace("/tcp", "") in [line.replace("/tcp", "") for line in lines]
    for target, (source, _mode) in image.FILES.items():
        assert f"COPY {source} /{target}" in lines
