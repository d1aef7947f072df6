# SPDX-License-Identifier: Apache-2.0
"""Options that say which back end of this host a command is about."""

import argparse
import os
from collections.abc import Mapping

from oslo_config import cfg

from container_stack import exceptions
from container_stack.conf import manila as conf
from container_stack.host import containers
from container_stack.shares import assembly

#: Owner of what belongs to no section of a configuration file.
OWNER = "container-stack"

#: Option on the command line to option in the section.
OPTIONS: Mapping[str, str] = {
    "state-dir": "container_stack_state_dir",
    "root-helper": "container_stack_root_helper",
    "docker-url": "container_stack_docker_url",
    "image": "container_image_name",
    "storage": "container_stack_storage",
    "filesystem": "container_stack_filesystem",
    "share-protocols": "container_stack_share_protocols",
    "volume-group": "container_volume_group",
    "thin-pool": "container_stack_thin_pool",
    "linux-bridge": "container_linux_bridge_name",
    "ovs-bridge": "container_ovs_bridge_name",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take a section of a configuration file, or single values, or both."""
    group = parser.add_argument_group(
        "back end", "from a section of manila.conf; what is given here counts more than the file"
    )
    group.add_argument("--config-file", metavar="FILE", help="the service's configuration file")
    group.add_argument(
        "--section", metavar="NAME", help="default: the only one in enabled_share_backends"
    )
    group.add_argument(
        "--owner", metavar="NAME", help=f"default: manila-SECTION, or without a file {OWNER}"
    )
    known = {option.name: option for option in conf.OPTS}
    for flag, name in OPTIONS.items():
        option = known[name]
        default = "" if option.default is None else f" (default: {option.default})"
        text = f"{(option.help or '').split('. ')[0].rstrip('.')}{default}".replace("%", "%%")
        group.add_argument(f"--{flag}", dest=name, metavar="VALUE", help=text)


def docker_url() -> str:
    """Return where the engine is for who says nothing: $DOCKER_HOST, or the usual socket."""
    return os.environ.get("DOCKER_HOST") or containers.DEFAULT_URL


def settings(args: argparse.Namespace) -> assembly.Settings:
    """Return the settings of the back end that the arguments name.

    :raises InvalidRequest: the file or a value in it can't be used, or the section is unclear.
    """
    try:
        return _settings(args)
    except (cfg.Error, ValueError) as exc:
        raise exceptions.InvalidRequest(str(exc)) from exc


def _settings(args: argparse.Namespace) -> assembly.Settings:
    files = [args.config_file] if args.config_file else []
    parsed = cfg.ConfigOpts()
    parsed([], project="container-stack", default_config_files=files, default_config_dirs=[])
    section = args.section or _only_section(parsed, args.config_file)
    parsed.register_opts(conf.OPTS, group=section)
    if not args.config_file:
        parsed.set_override("container_stack_docker_url", docker_url(), group=section)
    for name in OPTIONS.values():
        if getattr(args, name) is not None:
            parsed.set_override(name, getattr(args, name), group=section)
    owner = args.owner or (f"manila-{section}" if args.config_file else OWNER)
    return conf.settings(lambda name: parsed[section][name], owner)


def _only_section(parsed: cfg.ConfigOpts, config_file: str | None) -> str:
    if not config_file:
        return "container"
    parsed.register_opt(cfg.ListOpt("enabled_share_backends", default=[]))
    sections: list[str] = parsed.enabled_share_backends
    if len(sections) != 1:
        known = ", ".join(sections) or "none"
        raise exceptions.InvalidRequest(
            f"Say which back end with --section; {config_file} enables: {known}."
        )
    return sections[0]
