# SPDX-License-Identifier: Apache-2.0
"""Options that say which Datera store of glance-api.conf a command is about."""

import argparse

from oslo_config import cfg

from container_stack import exceptions
from container_stack.conf import glance as conf
from container_stack.imagestore import assembly

CONFIG_FILE = "/etc/glance/glance-api.conf"
#: Type of our stores, which names the only one, and the section of that one.
TYPE, ONLY = "datera", "glance_store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command take a store from Glance's configuration file."""
    group = parser.add_argument_group("store")
    group.add_argument(
        "--config-file", metavar="FILE", default=CONFIG_FILE, help="default: %(default)s"
    )
    group.add_argument(
        "--backend",
        metavar="NAME",
        help="a store in enabled_backends; default: the only one of type datera",
    )


def settings(args: argparse.Namespace) -> assembly.Settings:
    """Return the settings of the store that the arguments name.

    :raises InvalidRequest: the file or a value in it can't be used, or the store is unclear.
    """
    try:
        return _settings(args.config_file, args.backend)
    except (cfg.Error, ValueError) as exc:
        raise exceptions.InvalidRequest(str(exc)) from exc


def _settings(config_file: str, backend: str | None) -> assembly.Settings:
    parsed = cfg.ConfigOpts()
    parsed([], project="glance", default_config_files=[config_file], default_config_dirs=[])
    parsed.register_opt(cfg.DictOpt("enabled_backends", default={}))
    enabled: dict[str, str] = parsed.enabled_backends
    names = [name for name, kind in sorted(enabled.items()) if kind.strip() == TYPE]
    stores = names if enabled else [ONLY]
    wanted = [backend] if backend in stores else [] if backend else stores
    if len(wanted) != 1:
        known = ", ".join(stores) or f"none of type {TYPE}"
        raise exceptions.InvalidRequest(
            f"Say which store with --backend; {config_file} enables: {known}."
        )
    section = wanted[0]
    parsed.register_opts(conf.OPTS, group=section)
    return conf.settings(lambda name: parsed[section][name], section if enabled else TYPE)
