# SPDX-License-Identifier: Apache-2.0
"""A host that storlets can run on: their native library and agent, a syslog, a base image.

Where these are is fixed in storlets itself, so that all test runs of a machine share them: the
first one that needs them makes them, the last one takes away what was made. What takes long to
make (a library that is in storlets' sdist only, an image from Debian packages) stays in the work
directory of tools/lib.sh.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack.host import containers, images, locks

CACHE = Path(os.environ.get("CONTAINER_STACK_WORK", "/var/cache/container-stack-dev")) / "storlets"
VERSION = importlib.metadata.version("storlets")

#: Where storlets' gateway and agent look for both, here and in sandboxes.
NATIVE = Path("/usr/local/lib/storlets")
SYSLOG = Path("/dev/log")
#: Says that tests made the directory, and for which version of storlets.
_MARK = NATIVE / ".container-stack-test"
_LISTENER = Path(__file__).with_name("syslog_listener.py")

#: The operator's base image: Python, logger and apt as Debian has them; no ENTRYPOINT, no CMD.
BASE = "cstest-storlet-base:latest"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEBIAN = (
    *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
    "--include=python3",
    *("--dpkgopt=force-unsafe-io", '--aptopt=APT::Install-Recommends "false"'),
    '--aptopt=Acquire::Check-Valid-Until "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
    # usrmerge brings 50 MB of Perl, and its work is done.
    '--customize-hook=chroot "$1" apt-get -qq -y install usr-is-merged usrmerge-',
    '--customize-hook=chroot "$1" apt-get -qq -y purge perl ^libperl5 ^perl-modules',
    '--customize-hook=chroot "$1" apt-get -qq -y autoremove --purge',
    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*',
    "bookworm",
)


@pytest.fixture(scope="session")
def storlet_host() -> Iterator[None]:
    """A host that storlets can run on."""
    with prepared():
        yield


@pytest.fixture(scope="session")
def storlet_base(storlet_host: None, engine: containers.Engine) -> Iterator[str]:
    """The name of the operator's base image in the engine of this machine."""
    with loaded(engine):
        yield BASE


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Have library, agent and syslog in their places."""
    assert os.geteuid() == 0, "Run as root: storlets have fixed places below /usr/local and /dev."
    with _shared("host", _is_ready, _prepare, _restore):
        yield


@contextlib.contextmanager
def loaded(engine: containers.Engine) -> Iterator[None]:
    """Have the base image in the engine of this machine."""
    engine_images = images.Images(engine)
    with _shared(
        "engine",
        lambda: engine_images.find(BASE) is not None,
        lambda: load(engine),
        lambda: engine_images.remove(BASE),
    ):
        yield


def load(engine: containers.Engine) -> images.Image:
    """Bring the base image into an engine, for good; it has the same ID in each."""
    with base_archive().open("rb") as file:
        [image] = images.Images(engine).load(file)
    return image


def base_archive() -> Path:
    """Return an archive of the base image, as ``docker save`` makes them."""
    recipe = hashlib.sha256("\n".join(_DEBIAN).encode()).hexdigest()[:12]
    return cached(f"base-{recipe}.tar", _make_base)


def _make_base(path: Path) -> None:
    assert shutil.which("mmdebstrap"), "Install mmdebstrap: the base image is made of packages."
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        layer = Path(name, "layer.tar")
        subprocess.run([*_DEBIAN, layer], check=True)
        with layer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with tarfile.open(path, "w") as archive:
            archive.add(layer, "base/layer.tar")
            config = json.dumps(_config(digest)).encode()
            entry = {
                "Config": hashlib.sha256(config).hexdigest() + ".json",
                "RepoTags": [BASE],
                "Layers": ["base/layer.tar"],
            }
            _add(archive, entry["Config"], config)
            _add(archive, "manifest.json", json.dumps([entry]).encode())


def _config(digest: str) -> dict[str, object]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "architecture": machine,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": [f"PATH={_PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "mmdebstrap"}],
    }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _library() -> Path:
    return cached(f"libsbus-{VERSION}.so", _compile)


def _compile(path: Path) -> None:
    assert shutil.which("gcc"), "Install gcc and libc6-dev: storlets come with a file of C."
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        wanted = ("--no-deps", "--no-binary=:all:", f"--dest={name}", f"storlets=={VERSION}")
        pip = (sys.executable, "-m", "pip", "download", "--quiet")
        subprocess.run([*pip, *wanted], check=True)
        [sdist] = Path(name).glob("storlets-*.tar.gz")
        subprocess.run(["tar", "-xf", sdist, "-C", name], check=True)
        [source] = Path(name).glob("storlets-*/src/c/sbus/sbus.c")
        options = ("-shared", "-fPIC", "-Wall", "-O2")
        subprocess.run(["gcc", *options, "-o", path, source], check=True)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return a file of the cache; ``make`` writes it to the path that it is given."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path, draft = CACHE / name, CACHE / f"{name}.new"
    fd = locks.lock(str(CACHE / f"{name}.lock"))
    try:
        if not path.exists():
            make(draft)
            draft.rename(path)
    finally:
        os.close(fd)
    return path


def _is_ready() -> bool:
    # An operator's own is used as it is.
    theirs = NATIVE.exists() and not _MARK.exists()
    ours = _MARK.exists() and _MARK.read_text() == VERSION
    return (theirs or ours) and _syslog_answers()


def _prepare() -> None:
    library = _library()
    if not NATIVE.exists() or _MARK.exists():
        _remove_native()
        spec = importlib.util.find_spec("storlets")
        assert spec is not None
        assert spec.origin is not None
        skipped = shutil.ignore_patterns("__pycache__")
        agent = Path(spec.origin).parent
        shutil.copytree(agent, NATIVE / "python/storlets", ignore=skipped)
        shutil.copy(library, NATIVE / "libsbus.so")
        _MARK.write_text(VERSION)
    if not _syslog_answers():
        SYSLOG.unlink(missing_ok=True)
        _start_listener()


def _restore() -> None:
    _stop_listener()
    if _MARK.exists():
        _remove_native()


def _remove_native() -> None:
    # The mark goes last: without it what is left would be taken for an operator's.
    for path in (NATIVE / "python", NATIVE / "libsbus.so"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _MARK.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        NATIVE.rmdir()


def _syslog_answers() -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(str(SYSLOG))
            return True
    return False


def _start_listener() -> None:
    argv = [sys.executable, "-I", _LISTENER, SYSLOG, CACHE / "syslog"]
    process = subprocess.Popen(argv, env={}, stdin=subprocess.DEVNULL, start_new_session=True)
    (CACHE / "syslog.pid").write_text(str(process.pid))
    deadline = time.monotonic() + 10
    while not _syslog_answers():
        assert time.monotonic() < deadline, f"Nothing listens at {SYSLOG}."
        time.sleep(0.02)


def _stop_listener() -> None:
    """End the listener that this run or one before it started, if there is one."""
    with contextlib.suppress(OSError):
        pid = int((CACHE / "syslog.pid").read_text())
        # Another checkout's may have started it.
        if _LISTENER.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while SYSLOG.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            # It is our child, unless an earlier run started it.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    (CACHE / "syslog.pid").unlink(missing_ok=True)


@contextlib.contextmanager
def _shared(
    name: str, ready: Callable[[], bool], make: Callable[[], object], undo: Callable[[], object]
) -> Iterator[None]:
    """Have something there while anybody needs it, and undone after the last one."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = str(CACHE / f"{name}.lock")
    fd = _lock_ready(path, ready, make)
    try:
        yield
    finally:
        if locks.lock_alone(fd, path):
            undo()
        os.close(fd)


def _lock_ready(path: str, ready: Callable[[], bool], make: Callable[[], object]) -> int:
    while True:
        fd = locks.lock(path, shared=True)
        if ready():
            return fd
        os.close(fd)
        # Nobody can be using what isn't ready.
        fd = locks.lock(path)
        try:
            if not ready():
                make()
        finally:
            os.close(fd)
