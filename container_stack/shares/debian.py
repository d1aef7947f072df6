# SPDX-License-Identifier: Apache-2.0
"""A directory tree from Debian packages, without root, a registry or a chroot.

apt downloads into a private directory and verifies every package against the signatures of the
archive, as it does for this host; nothing of the host's own package state is read or changed.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence

from container_stack import exceptions

#: Called with the phase ("resolve", "download", "unpack", "import"), bytes done and bytes in all.
Progress = Callable[[str, int, int], None]

#: Where files of packages from before the merge of / and /usr belong.
_MERGED = re.compile(r"(?:bin|sbin|lib|lib64)(?:/|\Z)")
_URI = re.compile(r"'[^']+' (?P<file>\S+) (?P<size>[0-9]+) ")
_NEEDED = re.compile(r" => (?P<path>/.+) \(0x[0-9a-f]+\)\Z")


def download(packages: Iterable[str], directory: pathlib.Path, progress: Progress) -> list[str]:
    """Download packages with all that they depend on; return the paths of the .deb files.

    The host's package lists serve when they are fresh enough; else private ones are fetched.

    :param directory: where the files and the private state go.
    :raises HostNotReady: this host has no apt, or its releases lack a package.
    :raises CommandFailed: the download failed; the network or the mirror may be down.
    """
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            raise exceptions.HostNotReady(
                f"{program} isn't installed; build the image on a Debian or Ubuntu host, "
                "or with `docker build` and the Dockerfile in container_stack/shares/image."
            )
    try:
        return _fetch(_Apt(directory), packages, progress)
    except (exceptions.HostNotReady, exceptions.CommandFailed):
        apt = _Apt(directory, private_lists=True)
        apt.run("update", "-o", "APT::Update::Error-Mode=any")
        return _fetch(apt, packages, progress)


def _fetch(apt: "_Apt", packages: Iterable[str], progress: Progress) -> list[str]:
    progress("resolve", 0, 1)
    install = ("install", "--download-only", *packages)
    sizes = {m["file"]: int(m["size"]) for m in _URI.finditer(apt.run("--print-uris", *install))}
    total = sum(sizes.values())
    progress("resolve", 1, 1)
    with apt.start(*install, "-o", "APT::Status-Fd=1") as lines:
        for line in lines:
            kind, _, rest = line.partition(":")
            if kind == "dlstatus":
                progress("download", int(total * float(rest.split(":")[1]) / 100), total)
    progress("download", total, total)
    return [str(apt.archives / name) for name in sorted(sizes)]


class _Apt:
    """apt-get with its state, cache and (when asked) package lists in a directory of ours."""

    def __init__(self, directory: pathlib.Path, *, private_lists: bool = False) -> None:
        self.archives = directory / "archives"
        (self.archives / "partial").mkdir(parents=True, exist_ok=True)
        status = directory / "status"
        status.touch()
        options = {
            "Dir::State::status": status,
            "Dir::Cache::archives": self.archives,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Debug::NoLocking": "1",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "2",
        }
        if private_lists:
            (directory / "lists" / "partial").mkdir(parents=True, exist_ok=True)
            options["Dir::State::lists"] = directory / "lists"
        self._argv = ["apt-get", "-qq", "-y"]
        for name, value in options.items():
            self._argv += ["-o", f"{name}={value}"]

    def run(self, *words: str) -> str:
        with self.start(*words) as lines:
            return "".join(lines)

    def start(self, *words: str) -> "_Running":
        return _Running([*self._argv, *words])


class _Running:
    """The lines that apt-get writes, and on leaving the error that it ended with."""

    def __init__(self, argv: Sequence[str]) -> None:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Iterator[str]:
        assert self._process.stdout is not None
        return iter(self._process.stdout)

    def __exit__(self, *exc: object) -> None:
        _, said = self._process.communicate()
        if self._process.returncode:
            raise _translate(self._process.returncode, said)


def _translate(code: int, said: str) -> exceptions.ContainerStackError:
    errors = [line[3:] for line in said.splitlines() if line.startswith("E: ")]
    first = errors[0] if errors else said
    if "Unable to locate package" in first or "has no installation candidate" in first:
        return exceptions.HostNotReady(
            f"{first}: no release in /etc/apt/sources.list* has it; "
            "build on Debian 12 or newer, with the component main."
        )
    return exceptions.CommandFailed("apt-get", code, f"{first} Is the package mirror reachable?")


def unpack(debs: Sequence[str], root: pathlib.Path, progress: Progress) -> None:
    """Unpack packages under ``root``, all links made relative so that they stay inside.

    Documentation is left out, and maintainer scripts aren't run.
    """
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    total = sum(os.path.getsize(deb) for deb in debs)
    done = 0
    for deb in debs:
        progress("unpack", done, total)
        _unpack_one(deb, root)
        done += os.path.getsize(deb)
    progress("unpack", total, total)


def _unpack_one(deb: str, root: pathlib.Path) -> None:
    argv = ["dpkg-deb", "--fsys-tarfile", deb]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            _unpack_member(archive, member, root)
    if process.returncode:
        raise exceptions.CommandFailed(shlex.join(argv), process.returncode)


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: pathlib.Path) -> None:
    name = _place(member.name)
    path = root / name
    if not name.startswith("usr/") or name.startswith(("usr/share/", "usr/lib/python3/")):
        return
    if ".." in path.parts:
        raise exceptions.InvalidRequest(f"A package holds the path {member.name!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        path.symlink_to(_relative(member.linkname, name))
    elif member.islnk():
        os.link(root / _place(member.linkname), path)
    elif member.isfile():
        source = archive.extractfile(member)
        assert source is not None
        with path.open("wb") as target:
            shutil.copyfileobj(source, target)
        path.chmod(member.mode & 0o755)


def _place(name: str) -> str:
    name = name.removeprefix("./").lstrip("/")
    return f"usr/{name}" if _MERGED.match(name) else name


def _relative(target: str, link: str) -> str:
    if not target.startswith("/"):
        return target
    return os.path.relpath(_place(target), os.path.dirname(link))


class Libraries:
    """What programs under a root need, found by that root's own dynamic loader."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root.resolve()
        loaders = sorted(self._root.glob("usr/lib*/ld-linux*.so.*"))
        directories = sorted(self._root.glob("usr/lib/*-linux-gnu*"))
        if not loaders or not directories:
            raise exceptions.HostNotReady("The packages hold no dynamic loader of glibc.")
        self.loader = loaders[0]
        self.directory = directories[0]

    def needed(self, program: pathlib.Path) -> set[pathlib.Path]:
        """Return the loader and all libraries that a program or library needs, as named by it.

        :raises HostNotReady: a library is missing from the packages.
        """
        places = (self.directory, self.directory / "samba", self._root / "usr/lib/ganesha")
        path = ":".join(map(str, places))
        argv = [str(self.loader), "--inhibit-cache", "--library-path", path, "--list"]
        listed = subprocess.run(
            [*argv, str(program)], capture_output=True, text=True, env={}, check=False
        )
        if listed.returncode:
            raise exceptions.HostNotReady(f"Can't tell what {program} needs: {listed.stderr}")
        found = {self.loader}
        for line in listed.stdout.splitlines():
            match = _NEEDED.search(line)
            if match and not match["path"].startswith(f"{self._root}/"):
                raise exceptions.HostNotReady(f"{program} would take {match['path']} of this host.")
            if match:
                found.add(pathlib.Path(match["path"]))
        return found
