# SPDX-License-Identifier: Apache-2.0
"""Options of a Datera store's section in glance-api.conf."""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import assembly, edf

#: Policies by name, as arrays knew them up to software 3.2, or a path, as from 3.3 on.
_PLACEMENT = r"^(hybrid|single_flash|all_flash|/placement_policies/[^/]+)$"

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "datera_san_ip",
        help="Host name or IP address of the array's management; required. The array's "
        "certificate must be made out to it.",
    ),
    cfg.StrOpt("datera_san_login", help="User whom the array knows this service by; required."),
    cfg.StrOpt(
        "datera_san_password",
        secret=True,
        help="That user's password; required. It is sent to the array only, and never logged.",
    ),
    cfg.PortOpt(
        "datera_san_port",
        default=7718,
        help="Port of the array's management. 7717 speaks plain HTTP, on which anybody on the "
        "way can read the password; every other one HTTPS.",
    ),
    cfg.StrOpt(
        "datera_tenant_id",
        default="/root",
        help="Tenant that images are stored under: /root, /root/NAME, or NAME, which lies below "
        "/root. It is made if need be. Two stores on one array need two tenants.",
    ),
    cfg.IntOpt(
        "datera_replica_count",
        default=3,
        min=1,
        max=5,
        help="Copies that the array keeps of each new image, on as many of its nodes. Images "
        "that are there already keep theirs.",
    ),
    cfg.StrOpt(
        "datera_placement_mode",
        default="hybrid",
        regex=_PLACEMENT,
        help="Media of new images: `hybrid`, `single_flash` (one copy on flash), or `all_flash`. "
        "With software 3.3 or later also the path of a placement policy, such as "
        "/placement_policies/default.",
    ),
    cfg.IntOpt(
        "datera_chunk_size",
        default=1024**3,
        min=4096,
        help="Most bytes that are read from or written to a volume at once. An upload and a "
        "download hold up to four such pieces in memory. Pieces above 8 MiB are no faster, so "
        "that is what larger values amount to; lower it where memory is short.",
    ),
    cfg.IntOpt(
        "datera_default_image_size",
        default=1,
        min=1,
        max=32768,
        help="Size in GiB that the volume of an image starts with when nobody tells its size. It "
        "grows with the image, and thin volumes take only what is written.",
    ),
    cfg.IntOpt(
        "datera_retry_attempts",
        default=30,
        min=0,
        help="How often a request is made again when the array says that it is busy, or when "
        "the connection breaks.",
    ),
    cfg.FloatOpt(
        "datera_retry_interval",
        default=2.0,
        min=0,
        help="Seconds between those. With the default number an array may be away for a minute "
        "before an upload fails.",
    ),
    cfg.FloatOpt(
        "datera_operation_max_timeout",
        default=600.0,
        min=1,
        help="Seconds that one operation on the array may take, with all its repetitions, such "
        "as growing a volume.",
    ),
    cfg.StrOpt(
        "datera_ca_file",
        help="File with the CA certificates (PEM) that the array's certificate is checked "
        "against. Unset means the system's own.",
    ),
    cfg.BoolOpt(
        "datera_verify",
        default=True,
        help="Check the array's certificate. Without this, whoever answers at the array's "
        "address gets the password; turn it off only to find an error.",
    ),
    cfg.StrOpt(
        "datera_attach",
        help="How volumes are reached, by entry-point name: `brick` (the kernel's initiator), "
        "`libiscsi` (an initiator in this process, without root) or `file` (the simulator's "
        "volumes on this host). Unset means the first of `brick` and `libiscsi` that this host "
        "can use.",
    ),
    cfg.StrOpt(
        "datera_initiator",
        help="Name (IQN) that this host's initiator logs in with. Unset means that of "
        "/etc/iscsi/initiatorname.iscsi for `brick`, and one made of the host's name for "
        "`libiscsi`. No two hosts may have the same.",
    ),
    cfg.BoolOpt(
        "datera_multipath",
        default=False,
        help="Use all paths to a volume at once; for `brick`, with multipathd running. "
        "Without it one path is used; when that one is lost, `libiscsi` takes another.",
    ),
    cfg.StrOpt(
        "datera_glance_rootwrap_path",
        default="sudo glance-rootwrap",
        help="Command that runs another as root, for `brick`; its filters are images.filters.",
    ),
    cfg.StrOpt(
        "datera_glance_rootwrap_config",
        default="/etc/glance/rootwrap.conf",
        help="Configuration file of that command, its first argument.",
    ),
    cfg.StrOpt(
        "datera_state_dir",
        default="/var/lib/glance/datera",
        help="Directory for the journal of uploads, by which the next start removes from the "
        "array what a crash left there. It must outlive restarts, belong to the service's user, "
        "and be on a file system of this host. All stores of a host may share it.",
    ),
    cfg.StrOpt(
        "datera_simulator_dir",
        help="Directory in which the simulator on this host keeps its volumes; for `file`.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator, under the section of a single store."""
    return [("glance_store", OPTS)]


def settings(get: Callable[[str], Any], name: str) -> assembly.Settings:
    """Return the plain values that the core needs.

    :param get: gives the value of an option.
    :param name: of the store.
    :raises InvalidRequest: a value is missing, or two contradict each other.
    """
    _check(get)
    return assembly.Settings(
        name=name,
        endpoint=edf.Endpoint(
            get("datera_san_ip"),
            get("datera_san_login"),
            get("datera_san_password"),
            port=get("datera_san_port"),
            tenant=get("datera_tenant_id"),
            ca_file=get("datera_ca_file") or "",
            verify=get("datera_verify"),
            retry_attempts=get("datera_retry_attempts"),
            retry_interval=get("datera_retry_interval"),
            operation_timeout=get("datera_operation_max_timeout"),
        ),
        attacher=get("datera_attach"),
        attach_options=_attach_options(get),
        state_dir=get("datera_state_dir"),
        chunk_size=get("datera_chunk_size"),
        first_size_gib=get("datera_default_image_size"),
        replica_count=get("datera_replica_count"),
        placement_mode=get("datera_placement_mode"),
    )


def _attach_options(get: Callable[[str], Any]) -> attach.Options:
    config = get("datera_glance_rootwrap_config")
    return attach.Options(
        initiator=get("datera_initiator") or "",
        multipath=get("datera_multipath"),
        root_helper=f"{get('datera_glance_rootwrap_path')} {config}",
        rootwrap_config=config,
        directory=get("datera_simulator_dir") or "",
    )


def _check(get: Callable[[str], Any]) -> None:
    required = ("datera_san_ip", "datera_san_login", "datera_san_password")
    missing = [name for name in required if not get(name)]
    if missing:
        raise exceptions.InvalidRequest(f"Set {', '.join(missing)}.")
    if get("datera_ca_file") and not get("datera_verify"):
        raise exceptions.InvalidRequest("datera_ca_file is of no use without datera_verify.")
    if get("datera_multipath") and get("datera_attach") not in (None, "brick"):
        raise exceptions.InvalidRequest("datera_multipath is for datera_attach = brick only.")
    if get("datera_attach") == "file" and not get("datera_simulator_dir"):
        raise exceptions.InvalidRequest("datera_attach = file needs datera_simulator_dir.")
