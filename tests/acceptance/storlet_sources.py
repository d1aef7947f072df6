# SPDX-License-Identifier: Apache-2.0
"""What an account manager writes: a storlet that needs a Debian package, and Dockerfiles.

The storlet colours what it reads with a library that only a tuned image has, in a colour that a
file of the image says: what it writes tells which image ran it.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import requests
from functional import storlet_host

from container_stack.shares import debian

PACKAGE = "python3-colorama"

FILE, MAIN = "painter.py", "painter.Painter"
PAINTER = b"""\
import colorama


class Painter:
    def __init__(self, logger):
        self.logger = logger

    def __call__(self, in_files, out_files, params):
        with open("/etc/palette") as file:
            color = file.read().strip()
        metadata = in_files[0].get_metadata()
        out_files[0].set_metadata({**metadata, "color": color, "node": node()})
        out_files[0].write(getattr(colorama.Fore, color).encode())
        while data := in_files[0].read(65536):
            out_files[0].write(data)
        out_files[0].write(colorama.Fore.RESET.encode())
        in_files[0].close()
        out_files[0].close()


def node():
    try:
        with open("/usr/local/lib/storlets/node") as file:
            return file.read()
    except FileNotFoundError:
        return "none"
"""
#: Runs in every image, and tells which one it is by the palette, or by there being none.
TELLER_FILE, TELLER_MAIN = "teller.py", "teller.Teller"
TELLER = b"""\
class Teller:
    def __init__(self, logger):
        self.logger = logger

    def __call__(self, in_files, out_files, params):
        try:
            with open("/etc/palette") as file:
                color = file.read().strip()
        except FileNotFoundError:
            color = "none"
        out_files[0].set_metadata(in_files[0].get_metadata())
        out_files[0].write(color.encode())
        in_files[0].close()
        out_files[0].close()
"""

#: Of a request that is to go through the storlet.
RUN, TELL = {"X-Run-Storlet": FILE}, {"X-Run-Storlet": TELLER_FILE}

#: What the terminal's colours are.
COLORS = {"RED": b"\x1b[31m", "GREEN": b"\x1b[32m", "BLUE": b"\x1b[34m"}
_RESET = b"\x1b[39m"

#: Lines for an image that verification must refuse: storlets' agent pipes a storlet's output to it.
WITHOUT_LOGGER = 'RUN ["rm", "/usr/bin/logger"]'
#: Lines for an image that works but on one node.
_ALLERGY = """\
import os

try:
    with open("/usr/local/lib/storlets/node") as file:
        if file.read() == "{node}":
            os._exit(1)
except FileNotFoundError:
    pass
"""


def painted(data: bytes, color: str) -> bytes:
    """Return what the storlet makes of these bytes."""
    return COLORS[color] + data + _RESET


def color_of(answer: requests.Response, data: bytes) -> str | None:
    """Return the colour that the storlet painted with, or None if it is no such answer."""
    for color in COLORS:
        if answer.status_code == 200 and answer.content == painted(data, color):
            return color
    return None


def write_context(directory: Path, base: str, color: str, *more: str) -> Path:
    """Write a Dockerfile and what it needs, and return their directory.

    :param base: the image that it stands on.
    :param more: lines of the Dockerfile.
    """
    directory.mkdir()
    package = storlet_host.cached(f"{PACKAGE}.deb", _download)
    shutil.copy(package, directory / f"{PACKAGE}.deb")
    (directory / "palette").write_text(f"{color}\n")
    lines = [
        f"FROM {base}",
        "MAINTAINER root",
        f"COPY {PACKAGE}.deb /root/",
        f'RUN ["dpkg", "--install", "/root/{PACKAGE}.deb"]',
        *more,
        "COPY palette /etc/palette",
    ]
    (directory / "Dockerfile").write_text("\n".join([*lines, ""]))
    return directory


def add_allergy(directory: Path, node: str) -> None:
    """Make an image of a context that works everywhere but on this node."""
    (directory / "sitecustomize.py").write_text(_ALLERGY.format(node=node))
    with (directory / "Dockerfile").open("a") as file:
        file.write("COPY sitecustomize.py /usr/lib/python3.11/\n")


def put_storlets(session: requests.Session, url: str) -> None:
    """Store both storlets in an account that is enabled.

    :param url: of the account.
    """
    for file, main, source in (FILE, MAIN, PAINTER), (TELLER_FILE, TELLER_MAIN, TELLER):
        said = {
            "Language": "Python",
            "Language-Version": "3",
            "Interface-Version": "1.0",
            "Object-Metadata": "no",
            "Main": main,
        }
        headers = {f"X-Object-Meta-Storlet-{name}": value for name, value in said.items()}
        session.put(f"{url}/storlet/{file}", data=source, headers=headers).raise_for_status()


def words(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what an answer's headers say of colour and node."""
    return {name: metadata[f"X-Object-Meta-{name}"] for name in ("Color", "Node")}


def _download(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        files = debian.download([PACKAGE], Path(name), lambda *_: None)
        [package] = [file for file in files if Path(file).name.startswith(f"{PACKAGE}_")]
        shutil.copy(package, path)
