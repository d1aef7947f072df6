# SPDX-License-Identifier: Apache-2.0
"""Images of accounts built by the engine of this machine, and saved."""

import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.storlets.workbench import build, context, dockerfile

from . import busybox

MAINTAINER = "LABEL maintainer=root\n"


@pytest.fixture
def own_images(engine: containers.Engine) -> images.Images:
    return images.Images(engine)


@pytest.fixture
def parent(
    own_images: images.Images, engine: containers.Engine, name: str
) -> Iterator[dockerfile.Parent]:
    """A base of the test's own; all that was built over it goes with it."""
    changes = [*busybox.CHANGES, f"LABEL container_stack.test={name}"]
    own_images.import_tar(io.BytesIO(busybox.root_file_system()), f"{name}-base:1", changes)
    yield build.find_parent(own_images, f"{name}-base:1", ["the-base"])
    own_images.remove(f"{name}-base:1")
    remove_descendants(own_images, name)
    assert not own_images.labelled(f"container_stack.test={name}")


def remove_descendants(own_images: images.Images, name: str) -> None:
    """Remove what the cache keeps, which inherits the base's label; children come first."""
    for _ in range(20):
        for each in own_images.labelled(f"container_stack.test={name}"):
            try:
                own_images.remove(each.id)
            except exceptions.Busy:
                continue


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    return made


def write(directory: Path, text: str) -> None:
    (directory / "Dockerfile").write_text(text)


def files(engine: containers.Engine, image: images.Image, path: str, name: str) -> list[str]:
    """Return the names below a directory of an image."""
    spec = containers.ContainerSpec(name=name, image=image.id, command=["x"])
    with engine.creating(spec) as made:
        data = b"".join(engine.get_archive(made, path))
        engine.remove(made)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return sorted(tar.getnames())


def test_image_is_built_over_the_base_and_named(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, name: str
) -> None:
    (directory / "library").write_bytes(os.urandom(1_000_003))
    write(
        directory, "FROM the-base\n" + MAINTAINER + "COPY library /lib/\nRUN cat /lib/library >&2\n"
    )
    lines: list[str] = []
    seen: list[tuple[str, int, int | None]] = []
    result = build.build(
        own_images,
        str(directory),
        f"{name}:2",
        parent,
        network="none",
        output=lines.append,
        progress=lambda *each: seen.append(each),
    )
    try:
        assert result.findings == []
        assert result.image is not None
        assert result.image.tags == (f"{name}:2",)
        base = own_images.find(parent.image_id)
        assert base is not None
        assert result.image.layers[:1] == base.layers
        assert len(result.image.layers) == 2
        assert result.image.config["Cmd"] == base.config["Cmd"]
        assert result.image.labels[build.LABEL] == parent.image_id
        assert any("RUN cat" in each for each in lines)
        assert seen[-1][1] > 1_000_003
        again = build.build(own_images, str(directory), f"{name}:2", parent)
        assert again == result
    finally:
        own_images.remove(f"{name}:2")


def test_foreign_image_of_the_bases_name_is_not_taken(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, name: str
) -> None:
    changes = [f"LABEL container_stack.test={name}"]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        busybox.add_file(tar, "foreign", b"x")
    data.seek(0)
    foreign = own_images.import_tar(data, f"{name}-base:1", changes)
    write(directory, f"FROM {name}-base:1\nRUN test ! -e /foreign\n")
    result = build.build(own_images, str(directory), f"{name}:2", parent)
    assert result.image is not None
    assert foreign.layers[0] not in result.image.layers
    own_images.remove(f"{name}:2")


def test_dry_run_and_refusal_build_nothing(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, name: str
) -> None:
    write(directory, "FROM the-base\nRUN false\n")
    result = build.build(own_images, str(directory), f"{name}:2", parent, dry_run=True)
    assert (result.image, result.refused, len(result.findings)) == (None, False, 1)
    write(directory, "FROM the-base\nRUN false\nCMD x\n")
    result = build.build(own_images, str(directory), f"{name}:2", parent)
    assert (result.image, result.refused) == (None, True)
    assert len(own_images.labelled(f"container_stack.test={name}")) == 1


def test_what_only_the_image_shows_is_refused_and_removed(
    own_images: images.Images,
    parent: dockerfile.Parent,
    directory: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if the engine read a line in another way than we do.
    monkeypatch.setattr(dockerfile.Dockerfile, "check", lambda *_args, **_kw: [])
    write(
        directory,
        "FROM the-base\nENTRYPOINT /x\nONBUILD RUN y\nVOLUME /mnt /data\nENV PYTHONHOME=/z\n",
    )
    result = build.build(own_images, str(directory), f"{name}:2", parent)
    assert result.image is None
    details = " ".join(each.detail for each in result.findings)
    for word in ("ENTRYPOINT", "CMD", "ONBUILD", "VOLUME /mnt", "PYTHONHOME"):
        assert word in details
    assert "/data" not in details
    assert own_images.find(f"{name}:2") is None
    assert len(own_images.labelled(f"container_stack.test={name}")) == 1


def test_failed_run_tells_why_and_leaves_no_name(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, name: str
) -> None:
    write(directory, "FROM the-base\nRUN exit 7\n")
    with pytest.raises(exceptions.CommandFailed, match="exit code 7"):
        build.build(own_images, str(directory), f"{name}:2", parent)
    write(directory, "FROM the-base\nCOPY missing /\n")
    with pytest.raises(exceptions.InvalidRequest, match="missing"):
        build.build(own_images, str(directory), f"{name}:2", parent)
    assert own_images.find(f"{name}:2") is None


@pytest.mark.parametrize("reference", ["Capitals:1", "", "a b"])
def test_bad_name_is_refused_before_anything_is_built(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, reference: str
) -> None:
    write(directory, "FROM the-base\n")
    with pytest.raises(exceptions.InvalidRequest):
        build.build(own_images, str(directory), reference, parent, output=pytest.fail)


def test_bases_own_name_is_not_given_away(
    own_images: images.Images, parent: dockerfile.Parent, directory: Path, name: str
) -> None:
    write(directory, "FROM the-base\n")
    with pytest.raises(exceptions.InvalidRequest, match="names the base"):
        build.build(own_images, str(directory), f"{name}-base:1", parent)


def test_missing_base_is_told(own_images: images.Images, name: str) -> None:
    with pytest.raises(exceptions.NotFound, match="download"):
        build.find_parent(own_images, f"{name}:7")


def test_context_is_what_docker_would_send(
    own_images: images.Images,
    engine: containers.Engine,
    parent: dockerfile.Parent,
    directory: Path,
    name: str,
) -> None:
    for path in ("keep/a", "keep/b.o", "drop/c", "drop/deep/d", "drop/deep/keep", "ümläut"):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)
    (directory / ".dockerignore").write_text("# comment\ndrop\n**/*.o\n!drop/deep/keep\n.docker*\n")
    (directory / "link").symlink_to("/etc/hostname")
    (directory / "away").symlink_to("/etc")
    os.mkfifo(directory / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(directory / "socket"))
        write(directory, "FROM the-base\n" + MAINTAINER + "COPY . /copied/\n")
        result = build.build(own_images, str(directory), f"{name}:2", parent)
    assert result.image is not None
    assert files(engine, result.image, "/copied", name) == [
        "copied",
        *("copied/Dockerfile", "copied/away"),
        *("copied/drop", "copied/drop/deep", "copied/drop/deep/keep"),
        *("copied/keep", "copied/keep/a", "copied/link", "copied/ümläut"),
    ]
    own_images.remove(f"{name}:2")


def test_context_never_reads_through_links(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    write(directory, "FROM x\n")
    (directory / "file").symlink_to(tmp_path / "secret")
    (directory / "folder").symlink_to(tmp_path)
    data = b"".join(context.stream(str(directory), {}))
    assert b"secret" not in data.replace(bytes(str(tmp_path / "secret"), "ascii"), b"")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(tar.getnames()) == [".dockerignore", "Dockerfile", "file", "folder"]
        assert all(each.uid == each.gid == 0 for each in tar.getmembers())
    for name in ("file", "../secret", "folder/secret", str(tmp_path / "secret")):
        with pytest.raises(exceptions.InvalidRequest, match="outside"):
            context.read(str(directory), name)
    (directory / ".dockerignore").symlink_to(tmp_path / "secret")
    with pytest.raises(exceptions.InvalidRequest, match="outside"):
        list(context.stream(str(directory), {}))


def test_missing_directory_and_dockerfile_are_told(directory: Path) -> None:
    with pytest.raises(exceptions.NotFound, match="no Dockerfile"):
        context.read(str(directory), "Dockerfile")
    with pytest.raises(exceptions.InvalidRequest):
        list(context.stream(str(directory / "missing"), {}))


def test_saved_image_claims_no_name(
    own_images: images.Images, parent: dockerfile.Parent, tmp_path: Path
) -> None:
    target = tmp_path / "image.tar"
    target.write_text("old")
    seen: list[tuple[str, int, int | None]] = []
    build.save(own_images, parent.image_id, str(target), lambda *each: seen.append(each))
    assert seen[-1] == ("image.tar", target.stat().st_size, None)
    with tarfile.open(target) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert b'"RepoTags":null' in manifest.read()
    assert [each.name for each in tmp_path.iterdir()] == ["image.tar"]


def test_failed_save_leaves_the_old_file(
    own_images: images.Images, parent: dockerfile.Parent, tmp_path: Path
) -> None:
    target = tmp_path / "image.tar"
    target.write_text("old")
    with pytest.raises(exceptions.NotFound):
        build.save(own_images, "sha256:" + "0" * 64, str(target))

    def fail(_what: str, done: int, _total: int | None) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(exceptions.NoSpace):
        build.save(own_images, parent.image_id, str(target), fail)
    with pytest.raises(exceptions.InvalidRequest, match="missing"):
        build.save(own_images, parent.image_id, str(tmp_path / "missing" / "image.tar"))
    assert target.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["image.tar"]


CHILD = """
import sys
from container_stack.host import containers, images
from container_stack.storlets.workbench import build
own = images.Images(containers.Engine(sys.argv[1]))
build.build(own, sys.argv[2], sys.argv[4], build.find_parent(own, sys.argv[3], ["the-base"]),
            output=lambda line: print(line, flush=True))
"""


def test_killed_build_leaves_no_container(
    own_images: images.Images,
    engine: containers.Engine,
    parent: dockerfile.Parent,
    directory: Path,
    name: str,
) -> None:
    write(directory, "FROM the-base\nRUN echo now; sleep 1000\n")
    argv = [sys.executable, "-c", CHILD, engine.connection.url, str(directory)]
    with subprocess.Popen(
        [*argv, parent.image_id, f"{name}:2"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert any(line.strip() == "now" for line in child.stdout)
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while [each for each in engine.list() if each.labels.get("container_stack.test") == name]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
