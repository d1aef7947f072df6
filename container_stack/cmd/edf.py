# SPDX-License-Identifier: Apache-2.0
"""``container-stack edf-simulator``: a Datera array without the array."""

import argparse
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from cliff import command

from container_stack import exceptions
from container_stack.testing.edf import faults, simulator

GIB = 1024**3
HTTP, HTTPS = 7717, 7718

#: What Glance needs to know; {password} is left out where it is shown.
CONF_FILE = """\
[DEFAULT]
enabled_backends = simulator:datera

[glance_store]
default_backend = simulator

[simulator]
"""


class Simulator(command.Command):
    """Run a simulated Datera array, until it is interrupted.

    It answers like EDF's REST API v2.1 and v2.2, and exports sparse files as volumes. What is in
    its directory outlives it. Nobody but this host should reach it: it is made for tests.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--directory", metavar="DIR", required=True, help="where it keeps all that it has"
        )
        parser.add_argument(
            "--address",
            default="127.0.0.1",
            help="where its REST API listens (default: %(default)s)",
        )
        parser.add_argument(
            "--port", type=int, help=f"0 is any free one (default: {HTTPS}, or {HTTP} with --http)"
        )
        parser.add_argument(
            "--http", action="store_true", help="speak plain HTTP; for clients without TLS"
        )
        parser.add_argument(
            "--target",
            choices=("tgt", "file"),
            default="tgt",
            help="what exports volumes: the iSCSI server tgt, or nothing, for clients on this host "
            "that attach its files (default: %(default)s)",
        )
        parser.add_argument("--login", default="admin", help="its user (default: %(default)s)")
        parser.add_argument(
            "--password-file",
            metavar="FILE",
            help="with that user's password on its first line (default: DIR/password, with a "
            "password that is made up the first time)",
        )
        parser.add_argument(
            "--capacity",
            type=_gib,
            default=1024 * GIB,
            metavar="GIB",
            help="room for volumes, which take only what is written (default: 1024)",
        )
        parser.add_argument(
            "--sw-version",
            metavar="VERSION",
            default="2.2.0",
            help="the array's software; from 3.3 on metadata and placement work differently "
            "(default: %(default)s)",
        )
        parser.add_argument(
            "--key-lifetime",
            type=float,
            default=simulator.KEY_LIFETIME,
            metavar="SECONDS",
            help="after which clients must log in again (default: %(default)g)",
        )
        parser.add_argument(
            "--fault",
            action="append",
            default=[],
            type=_fault,
            metavar="KIND[,NAME=VALUE...]",
            help="make a fault from the start, such as http_error,status=503,times=3,path=/login; "
            f"may be given again; kinds: {', '.join(faults.KINDS)}",
        )
        parser.add_argument(
            "--control",
            action="store_true",
            help="let whoever reaches it make faults, at the path /control/faults",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        # From now on both signals raise KeyboardInterrupt, and what was begun is ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with _simulator(parsed_args) as array:
                for kind, values in parsed_args.fault:
                    _arm(array, kind, values)
                self._tell(array, parsed_args)
                while True:
                    signal.pause()
        except KeyboardInterrupt:
            return

    def _tell(self, array: simulator.Simulator, args: argparse.Namespace) -> None:
        section = "".join(f"{key} = {value}\n" for key, value in _options(array, args))
        file = Path(args.directory) / "glance-api.conf"
        password = f"datera_san_password = {array.password}\n"
        _write_secret(file, CONF_FILE + section + password)
        scheme = "http" if args.http else "https"
        self.app.stdout.write(
            f"EDF {args.sw_version} answers at {scheme}://{array.address}:{array.port}; user "
            f"{array.login}, volumes by {args.target}.\n"
            f"{file} is for Glance, with the password:\n\n{CONF_FILE}{section}"
            "datera_san_password = ...\n\nInterrupt this to end it.\n"
        )
        self.app.stdout.flush()


def _simulator(args: argparse.Namespace) -> simulator.Simulator:
    directory = Path(args.directory).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = _password(directory, args.password_file)
    except OSError as exc:
        raise exceptions.HostNotReady(f"Can't use {exc.filename}: {exc.strerror}.") from exc
    port = (HTTP if args.http else HTTPS) if args.port is None else args.port
    return simulator.Simulator(
        directory,
        target=args.target,
        tls=not args.http,
        port=port,
        address=args.address,
        login=args.login,
        password=password,
        capacity=args.capacity,
        sw_version=args.sw_version,
        key_lifetime=args.key_lifetime,
        control=args.control,
    )


def _fault(text: str) -> tuple[str, dict[str, str]]:
    kind, *pairs = text.split(",")
    return kind, {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _arm(array: simulator.Simulator, kind: str, values: Mapping[str, str]) -> None:
    try:
        array.faults.arm(kind, values)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"The fault {kind} can't be made: {exc}.") from exc


def _options(array: simulator.Simulator, args: argparse.Namespace) -> Iterator[tuple[str, object]]:
    yield "datera_san_ip", array.address
    yield "datera_san_port", array.port
    if not args.http:
        yield "datera_ca_file", array.ca_file
    if args.target == "file":
        yield "datera_attach", "file"
        yield "datera_simulator_dir", array.directory
    else:
        yield "datera_attach", "libiscsi"
    yield "datera_san_login", array.login


def _password(directory: Path, file: str | None) -> str:
    if file is None:
        made = directory / "password"
        if not made.exists():
            _write_secret(made, f"{secrets.token_urlsafe(18)}\n")
        file = str(made)
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0]:
        raise exceptions.InvalidRequest(f"There is no password on the first line of {file}.")
    return lines[0]


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment anybody else."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(new, path)


def _gib(text: str) -> int:
    capacity = int(text)
    if capacity < 1:
        raise ValueError
    return capacity * GIB
