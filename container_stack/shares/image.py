# SPDX-License-Identifier: Apache-2.0
"""The share servers' image: Samba, Ganesha, busybox, tini and our control scripts, nothing else.

It is made from Debian packages, without root or a registry; ``image/Dockerfile`` beside this
module makes an image that serves the same from ``debian:bookworm-slim`` for those who have one.
"""

import importlib.resources
import io
import os
import pathlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO

from container_stack.host import images
from container_stack.shares import debian

#: Goes up with every change of what is in the image.
VERSION = 5
REFERENCE = f"container-stack-samba:{VERSION}"
LABELS = {"container_stack.image": "samba", "container_stack.image.version": str(VERSION)}

PACKAGES = (
    "busybox-static",
    "dbus-bin",
    "dbus-daemon",
    "ldap-utils",
    "libnss-winbind",
    "nfs-ganesha-vfs",
    "samba",
    "samba-vfs-modules",
    "tini",
    "util-linux",
    "winbind",
)
#: Without rpcd_winreg: it lets administrators of a tenant's domain change Samba's settings, and so
#: run what they like as root in the container.
PROGRAMS = (
    "usr/bin/dbus-daemon",
    "usr/bin/dbus-send",
    "usr/bin/flock",
    "usr/bin/ganesha.nfsd",
    "usr/bin/ldapsearch",
    "usr/bin/net",
    "usr/bin/pdbedit",
    "usr/bin/setpriv",
    "usr/bin/smbcontrol",
    "usr/bin/smbpasswd",
    "usr/bin/smbstatus",
    "usr/bin/testparm",
    "usr/bin/tini",
    "usr/bin/wbinfo",
    "usr/libexec/samba/rpcd_classic",
    "usr/libexec/samba/rpcd_lsad",
    "usr/libexec/samba/samba-dcerpcd",
    "usr/sbin/smbd",
    "usr/sbin/winbindd",
)
#: Under the directory of libraries: NFS of what the kernel has mounted, users of a domain with
#: their numbers, Windows ACLs, and snapshots as previous versions.
MODULES = (
    "ganesha/libfsalvfs.so",
    "libnss_winbind.so.2",
    "samba/idmap/rid.so",
    "samba/vfs/acl_xattr.so",
    "samba/vfs/shadow_copy2.so",
)
#: Whatever else is written to is in the data volume or in memory.
DIRECTORIES = {
    "dev": 0o755,
    "etc": 0o755,
    "etc/samba": 0o755,
    "proc": 0o755,
    "run": 0o755,
    "shares": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/lib": 0o755,
    "usr/libexec": 0o755,
    "var": 0o755,
    "var/lib": 0o755,
    "var/lib/samba": 0o755,
}
LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "sbin": "usr/sbin",
    "var/run": "../run",
    # Accounts come and go with access rules, and the root file system is read-only.
    "etc/passwd": "../var/lib/samba/etc/passwd",
    # Another with users of a directory.
    "etc/nsswitch.conf": "../run/samba/nsswitch.conf",
}
#: Files beside this module, with their modes.
FILES = {
    "etc/dbus.conf": ("dbus.conf", 0o644),
    "etc/group": ("group", 0o644),
    "etc/netconfig": ("netconfig", 0o644),
    "etc/samba/smb.conf": ("smb.conf", 0o644),
    "usr/libexec/domain-member": ("domain-member", 0o755),
    "usr/libexec/ldap-reader": ("ldap-reader", 0o755),
    "usr/libexec/nfs-server": ("nfs-server", 0o755),
    "usr/libexec/share-server": ("share-server", 0o755),
}
CHANGES = (
    'ENTRYPOINT ["/usr/bin/tini", "-g", "--", "/usr/libexec/share-server"]',
    'CMD ["start"]',
    "ENV PATH=/usr/sbin:/usr/bin",
    "EXPOSE 445/tcp 2049/tcp",
    *(f"LABEL {name}={value}" for name, value in LABELS.items()),
)


def build(
    engine_images: images.Images,
    *,
    reference: str = REFERENCE,
    progress: debian.Progress = lambda phase, done, total: None,
) -> images.Image:
    """Make the image from Debian packages and return it, tagged.

    It takes some ten seconds, 62 MB of downloads and 450 MB of temporary space.

    :param progress: called with a phase, bytes done and bytes in all.
    :raises HostNotReady: this host has no apt, or its releases lack a package.
    :raises CommandFailed: the download failed; the text says why.
    """
    with tempfile.TemporaryDirectory(prefix="container-stack-image.") as name:
        directory = pathlib.Path(name)
        debs = debian.download(PACKAGES, directory, progress)
        debian.unpack(debs, directory / "root", progress)
        with tempfile.TemporaryFile(dir=directory) as archive:
            write(archive, directory / "root")
            return engine_images.import_tar(_reported(archive, progress), reference, CHANGES)


def _reported(archive: IO[bytes], progress: debian.Progress) -> Iterator[bytes]:
    size = archive.tell()
    archive.seek(0)
    while chunk := archive.read(images.CHUNK):
        yield chunk
        progress("import", archive.tell(), size)


def write(archive: IO[bytes], root: pathlib.Path) -> None:
    """Write the image's file system as a tar archive: the same bytes for the same packages."""
    members = dict(_our_own())
    members.update(_from_packages(root.resolve()))
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, (member, data) in sorted(members.items()):
            member.name = name
            with data.open("rb") if isinstance(data, pathlib.Path) else io.BytesIO(data) as source:
                tar.addfile(member, source)


#: What tar says of a file, and its bytes or where they are.
_Entry = tuple[tarfile.TarInfo, bytes | pathlib.Path]


def _our_own() -> Iterator[tuple[str, _Entry]]:
    for name, mode in DIRECTORIES.items():
        yield name, _entry(tarfile.DIRTYPE, mode)
    for name, target in LINKS.items():
        yield name, _entry(tarfile.SYMTYPE, 0o777, link=target)
    data = importlib.resources.files("container_stack.shares") / "image"
    for name, (source, mode) in FILES.items():
        yield name, _entry(tarfile.REGTYPE, mode, data=(data / source).read_bytes())


def _from_packages(root: pathlib.Path) -> Iterator[tuple[str, _Entry]]:
    libraries = debian.Libraries(root)
    busybox = root / "usr/bin/busybox"
    wanted = [root / name for name in PROGRAMS]
    wanted += [libraries.directory / name for name in MODULES]
    needed = set().union(*map(libraries.needed, wanted))
    for path in sorted({busybox, *wanted, *needed}):
        yield from _with_target(path, root)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if f"usr/bin/{applet}" not in ("usr/bin/busybox", *PROGRAMS):
            yield f"usr/bin/{applet}", _entry(tarfile.SYMTYPE, 0o777, link="busybox")


def _with_target(path: pathlib.Path, root: pathlib.Path) -> Iterator[tuple[str, _Entry]]:
    """Yield a file, and if it is a link, what it leads to."""
    while path.is_symlink():
        target = os.readlink(path)
        yield str(path.relative_to(root)), _entry(tarfile.SYMTYPE, 0o777, link=target)
        path = pathlib.Path(os.path.normpath(path.parent / target))
    stat = path.stat()
    entry = _entry(tarfile.REGTYPE, stat.st_mode & 0o755, data=path, size=stat.st_size)
    yield str(path.relative_to(root)), entry


def _entry(
    kind: bytes, mode: int, *, link: str = "", data: bytes | pathlib.Path = b"", size: int = 0
) -> _Entry:
    member = tarfile.TarInfo()  # owned by root, of the year 1970
    member.type, member.mode, member.linkname = kind, mode, link
    member.size = size or (len(data) if isinstance(data, bytes) else 0)
    return member, data
