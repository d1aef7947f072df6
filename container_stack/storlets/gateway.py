# SPDX-License-Identifier: Apache-2.0
"""The configuration of storlets' own gateway: where it keeps what, and what a sandbox may take.

Names and defaults are those of storlets 18 (storlets/gateway/gateways/container/runtime.py). All
nodes of a deployment have the same file.
"""

import configparser
import dataclasses
import os
from typing import Self

from container_stack import exceptions
from container_stack.storlets import model

#: Where the runtime's native library and agent are, on nodes and in sandboxes; not an option.
NATIVE = "/usr/local/lib/storlets"


@dataclasses.dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway of a node does.

    :param default_image: runs for accounts without an image of their own.
    :param storlet_timeout: seconds that a storlet may take before its first answer.
    :param start_timeout: seconds that a sandbox may take to start.
    :param options: the file's own text, option by option.
    """

    pipes: str
    storlets: str
    logs: str
    cache: str
    default_image: str
    storlet_timeout: float
    start_timeout: float
    limits: model.Limits
    options: dict[str, str]

    @classmethod
    def read(cls, path: str) -> Self:
        """Return what a gateway's configuration file says.

        :raises InvalidRequest: there is none, it is broken, or the runtime would fail with it.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
            return cls.of(dict(parser["DEFAULT"]))
        except (OSError, ValueError, configparser.Error) as exc:
            raise exceptions.InvalidRequest(
                f"{path} is no usable configuration of the storlet gateway: {exc}"
            ) from exc

    @classmethod
    def of(cls, options: dict[str, str]) -> Self:
        """Return what these options mean.

        :raises ValueError: a value is malformed, or makes every storlet fail.
        """
        for name in ("container_image_namespace", "docker_repo"):
            if options.get(name):
                raise ValueError(f"with {name} set the runtime starts no sandbox; remove it")
        root = options.get("host_root", "/var/lib/storlets")
        return cls(
            pipes=options.get("pipes_dir", os.path.join(root, "pipes", "scopes")),
            storlets=options.get("storlets_dir", os.path.join(root, "storlets", "scopes")),
            logs=options.get("log_dir", os.path.join(root, "logs", "scopes")),
            cache=options.get("cache_dir", os.path.join(root, "cache", "scopes")),
            default_image=options.get(
                "default_docker_image_name",
                options.get("default_container_image_name", "storlet_engine_image"),
            ),
            storlet_timeout=float(options.get("storlet_timeout", 40)),
            start_timeout=float(options.get("restart_linux_container_timeout", 10)),
            limits=model.Limits(
                memory=_integer(options, "container_mem_limit"),
                cpu_period=_integer(options, "container_cpu_period"),
                cpu_quota=_integer(options, "container_cpu_quota"),
                pids=_integer(options, "container_pids_limit"),
                cpuset_cpus=options.get("container_cpuset_cpus"),
                cpuset_mems=options.get("container_cpuset_mems"),
            ),
            options=dict(options),
        )


def _integer(options: dict[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if not text.strip().isdigit():
        raise ValueError(f"{name} must be a number without a unit, not {text!r}")
    return int(text)
