# SPDX-License-Identifier: Apache-2.0
"""Options that every command about storlets has: the configuration, the user and the account."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from container_stack import exceptions
from container_stack.cmd import backend
from container_stack.conf import storlets as conf
from container_stack.storlets import settings as plain

#: What a command that shows one thing, and one that lists several, returns.
Row = tuple[tuple[str, ...], tuple[Any, ...]]
Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]

CONFIG_FILE = "/etc/container-stack/container-stack.conf"
#: Names another file, for who can't write there.
CONFIG_VARIABLE = "CONTAINER_STACK_CONFIG"

#: Options that stand for a variable of the environment. Passwords come from there only: what is
#: on a command line everybody on the host can read.
VARIABLES: Mapping[str, str] = {
    "os-auth-url": "OS_AUTH_URL",
    "os-username": "OS_USERNAME",
    "os-user-domain-name": "OS_USER_DOMAIN_NAME",
    "os-project-name": "OS_PROJECT_NAME",
    "os-project-domain-name": "OS_PROJECT_DOMAIN_NAME",
    "os-region-name": "OS_REGION_NAME",
    "os-cacert": "OS_CACERT",
    "auth": "ST_AUTH",
    "user": "ST_USER",
}


def add_config(parser: argparse.ArgumentParser) -> None:
    """Let a command take a configuration file."""
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help=f"default: what ${CONFIG_VARIABLE} names, or {CONFIG_FILE} if there is one",
    )


def add_user(parser: argparse.ArgumentParser) -> None:
    """Let a command say who is asking Swift."""
    group = parser.add_argument_group(
        "user",
        "Who asks: OS_* variables for Keystone v3, or ST_AUTH, ST_USER and ST_KEY. "
        "Passwords are taken from the environment only.",
    )
    for option, variable in VARIABLES.items():
        group.add_argument(f"--{option}", metavar="VALUE", help=f"instead of ${variable}")


def add_account(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Let a command say whose images it is about."""
    parser.add_argument(
        "--account",
        metavar="AUTH_...",
        required=required,
        help="whose images" if required else "whose images; default: the user's own account",
    )


def add_all(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Let a command take all three; ``required`` as in :func:`add_account`."""
    add_account(parser, required=required)
    add_config(parser)
    add_user(parser)


def environment(args: argparse.Namespace) -> dict[str, str]:
    """Return the environment, with what the options say instead."""
    given = {
        variable: getattr(args, option.replace("-", "_")) for option, variable in VARIABLES.items()
    }
    return {**os.environ, **{name: value for name, value in given.items() if value}}


def settings(args: argparse.Namespace) -> plain.Settings:
    """Return what the configuration file says.

    :raises InvalidRequest: the file or a value in it can't be used.
    """
    given: str | None = args.config_file or os.environ.get(CONFIG_VARIABLE)
    files = [given or CONFIG_FILE] if given or os.path.exists(CONFIG_FILE) else []
    return conf.read(files, backend.docker_url())


def pair(text: str) -> tuple[str, str]:
    """Return what NAME=VALUE says."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} isn't NAME=VALUE")
    return name, value


def check_together(args: argparse.Namespace, *names: str) -> None:
    """See that all of these options are given, or none.

    :raises InvalidRequest: some are missing.
    """
    missing = [f"--{name}" for name in names if not getattr(args, name)]
    if 0 < len(missing) < len(names):
        raise exceptions.InvalidRequest(f"Give {', '.join(missing)}, too.")
