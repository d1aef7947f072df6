# SPDX-License-Identifier: Apache-2.0
"""Options of the storlet image manager: the section [storlets] of container-stack.conf."""

import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

from oslo_config import cfg

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets import settings as plain
from container_stack.storlets.image import archive

SECTION = "storlets"
MIB, GIB = plain.MIB, plain.GIB
_BOUNDS = archive.Bounds()

_SCHEMES = ("unix", "ssh", "tcp")

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "gateway_conf",
        default=plain.GATEWAY_CONF,
        help="The storlet gateway's own configuration file, as all nodes have it, or a copy. Its "
        "directories, time limits and limits of memory, CPU and processes are those that images "
        "are verified under and sandboxes started with.",
    ),
    cfg.StrOpt(
        "inventory",
        default=plain.INVENTORY,
        help="YAML file that lists the nodes: those with an object server or a proxy that runs "
        "storlets. `storlet-nodes.yaml.sample` shows all that it can say.",
    ),
    cfg.StrOpt(
        "ring",
        help="Object ring (object.ring.gz) whose devices are the nodes, instead of the inventory. "
        "It names no proxies: use the inventory where proxies run storlets.",
    ),
    cfg.StrOpt(
        "ring_url",
        default="ssh://{ip}",
        help="Where the engine of a host in the ring is: unix://, ssh:// or tcp://; {ip} is the "
        "device's address.",
    ),
    cfg.StrOpt(
        "docker_url",
        help="The engine of the host where the command runs, which builds, runs and verifies "
        "images. Unset means $DOCKER_HOST, or unix:///var/run/docker.sock. Who may use it is as "
        "good as root.",
    ),
    cfg.StrOpt(
        "base_image",
        default="storlet-base:latest",
        help="Reference, in that engine, of the image that accounts build on. It is published to "
        "accounts, and what accounts upload must stand on it.",
    ),
    cfg.StrOpt(
        "base_object",
        default="storlet-base.tar",
        help="Name of the base image's object in an account's container docker_images.",
    ),
    cfg.StrOpt(
        "state_dir",
        default=plain.STATE_DIR,
        help="Directory for unfinished transfers and, unless lock_url is set, locks. Nothing in "
        "it is missed when it is lost: what deployments must know is in Swift.",
    ),
    cfg.StrOpt(
        "lock_url",
        help="tooz back end that keeps two managers from changing one account at once, such as "
        "etcd3+http://192.0.2.7:2379. Unset means files in state_dir, which is enough while all "
        "managers run on one host.",
    ),
    cfg.StrOpt(
        "reseller_prefix",
        default="AUTH_",
        help="What names of accounts begin with; the same as the auth middleware's.",
    ),
    cfg.IntOpt(
        "segment_size_mb",
        default=256,
        min=1,
        max=5120,
        help="MiB of a segment. An archive that is larger is stored in segments, and an upload "
        "that was cut off goes on at the last whole one. Swift takes 1,000 segments, so the "
        "default is enough for 250 GiB.",
    ),
    cfg.IntOpt(
        "canaries",
        default=1,
        min=0,
        help="Nodes that change first, one after the other; the others follow when these work.",
    ),
    cfg.IntOpt(
        "wave_width",
        default=10,
        min=1,
        help="Nodes that change together after the canaries. Each starts a second sandbox of the "
        "account for as long as the change takes.",
    ),
    cfg.IntOpt(
        "concurrency",
        default=16,
        min=1,
        max=1000,
        help="Nodes that an image is sent to at once, and that are asked at once. Each transfer "
        "reads the image from Swift or from the manager's disk.",
    ),
    cfg.IntOpt(
        "max_down",
        default=0,
        min=0,
        help="Nodes that may be unreachable without stopping a deployment. They keep the previous "
        "image until `container-stack storlet resume` finds them again.",
    ),
    cfg.IntOpt(
        "keep_versions",
        default=3,
        min=1,
        help="Versions of an account's image that garbage collection leaves on nodes and in Swift, "
        "the current one among them. Only these can be rolled back to.",
    ),
    cfg.StrOpt(
        "registry",
        help="Registry that nodes pull images from, as host:port or host:port/path, instead of "
        "being sent archives: for fleets where one manager's network is too narrow. All nodes' "
        "engines must be configured to trust it.",
    ),
    cfg.StrOpt(
        "sandbox_user",
        help="Whom sandboxes run as: the user of Swift's servers, as a name that is known on the "
        "host where the command runs, or as UID or UID:GID of the nodes. Unset means `swift`, and "
        "for building and verifying on a host without that user somebody without rights.",
    ),
    cfg.IntOpt(
        "max_archive_gb",
        default=_BOUNDS.archive // GIB,
        min=1,
        help="GiB that an archive may have; a larger one is refused before it is read.",
    ),
    cfg.IntOpt(
        "max_unpacked_gb",
        default=_BOUNDS.unpacked // GIB,
        min=1,
        help="GiB that all files of an image may have together.",
    ),
    cfg.IntOpt(
        "max_layers",
        default=_BOUNDS.layers,
        min=1,
        max=125,
        help="Layers that an image may have; engines take no more than 125.",
    ),
    cfg.IntOpt(
        "max_entries",
        default=_BOUNDS.entries,
        min=1,
        help="Files, directories and links that all layers of an image may have together.",
    ),
    cfg.IntOpt(
        "max_config_kb",
        default=_BOUNDS.config // 1024,
        min=1,
        help="KiB that an image's configuration may have.",
    ),
    cfg.IntOpt(
        "max_growth_mb",
        default=1024,
        min=1,
        help="MiB of disk that an image may take while it is verified, for files and output.",
    ),
    cfg.FloatOpt(
        "verify_timeout",
        default=60.0,
        min=1,
        help="Seconds that one run of the image may take during a verification.",
    ),
    cfg.FloatOpt(
        "node_timeout",
        default=60.0,
        min=1,
        help="Seconds that a node's engine may keep silent before it counts as unreachable.",
    ),
    cfg.FloatOpt(
        "swift_timeout",
        default=60.0,
        min=1,
        help="Seconds that Swift may keep silent before a request is given up.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator."""
    return [(SECTION, OPTS)]


def read(files: Sequence[str], docker_url: str = containers.DEFAULT_URL) -> plain.Settings:
    """Return what configuration files say; later ones count more.

    :param docker_url: this host's engine for who sets none.
    :raises InvalidRequest: a file or a value in it can't be used.
    """
    parsed = cfg.ConfigOpts()
    try:
        parsed(
            [], project="container-stack", default_config_files=list(files), default_config_dirs=[]
        )
        parsed.register_opts(OPTS, group=SECTION)
        return settings(lambda name: parsed[SECTION][name], docker_url)
    except (cfg.Error, ValueError) as exc:
        raise exceptions.InvalidRequest(str(exc)) from exc


def settings(get: Callable[[str], Any], docker_url: str) -> plain.Settings:
    """Return the plain values that the image manager needs.

    :param get: gives the value of an option.
    :param docker_url: this host's engine for who sets none.
    :raises InvalidRequest: two values contradict each other, or one can't be used.
    """
    _check(get)
    return plain.Settings(
        gateway_conf=get("gateway_conf"),
        inventory=get("inventory"),
        ring=get("ring"),
        ring_url=get("ring_url"),
        docker_url=get("docker_url") or docker_url,
        base_image=get("base_image"),
        base_object=get("base_object"),
        state_dir=get("state_dir").rstrip("/"),
        lock_url=get("lock_url"),
        reseller_prefix=get("reseller_prefix"),
        segment_size=get("segment_size_mb") * MIB,
        registry=get("registry"),
        sandbox_user=get("sandbox_user"),
        rollout=_rollout(get),
        bounds=_bounds(get),
        growth=get("max_growth_mb") * MIB,
        verify_timeout=get("verify_timeout"),
        node_timeout=get("node_timeout"),
        swift_timeout=get("swift_timeout"),
    )


def _rollout(get: Callable[[str], Any]) -> plain.Rollout:
    return plain.Rollout(
        canaries=get("canaries"),
        wave=get("wave_width"),
        concurrency=get("concurrency"),
        max_down=get("max_down"),
        keep=get("keep_versions"),
    )


def _bounds(get: Callable[[str], Any]) -> archive.Bounds:
    return archive.Bounds(
        archive=get("max_archive_gb") * GIB,
        unpacked=get("max_unpacked_gb") * GIB,
        layers=get("max_layers"),
        entries=get("max_entries"),
        config=get("max_config_kb") * 1024,
    )


def _check(get: Callable[[str], Any]) -> None:
    ring_url = get("ring_url")
    if "{ip}" not in ring_url or urllib.parse.urlsplit(ring_url).scheme not in _SCHEMES:
        raise exceptions.InvalidRequest(
            f"ring_url is {ring_url!r}; it must contain {{ip}} and begin with ssh:// or tcp://."
        )
    if get("lock_url") and not urllib.parse.urlsplit(get("lock_url")).scheme:
        raise exceptions.InvalidRequest(
            f"lock_url is {get('lock_url')!r}; it must be a URL, such as etcd3+http://HOST:2379."
        )
    if not get("base_object") or "/" in get("base_object"):
        raise exceptions.InvalidRequest("base_object must be a name without a slash.")
