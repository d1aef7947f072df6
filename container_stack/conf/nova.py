# SPDX-License-Identifier: Apache-2.0
"""The section [docker] of nova.conf, as the plain values that the core needs.

nova-docker's options keep their names. What is Nova's own (``my_ip``, ``reserved_host_memory_mb``,
``[image_cache]``, ``[serial_console]`` and so on) is read from where Nova has it.
"""

import ipaddress
import json
import urllib.parse
from collections.abc import Iterable, Mapping

from oslo_config import cfg

from container_stack import exceptions
from container_stack.conf import nova_options
from container_stack.conf.nova_options import OPTS as OPTS
from container_stack.conf.nova_options import ROOT_DIRECTORY as ROOT_DIRECTORY
from container_stack.host import containers
from container_stack.servers import assembly, disks, spec
from container_stack.servers.wishes import parameter_values
from container_stack.servers.wishes import policy as server_policy

SECTION = "docker"
GIB = 1024**3


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator, under their section."""
    return [(SECTION, OPTS)]


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration, such as Nova's; idempotent."""
    conf.register_opts(OPTS, group=SECTION)


def settings(conf: cfg.ConfigOpts, owner: str) -> assembly.Settings:
    """Return how servers are to be kept.

    :param owner: names this service among all that use the host's engine.
    :raises InvalidRequest: options contradict each other, or name a file that can't be read.
    """
    ours = conf.docker
    return assembly.Settings(
        owner=owner,
        state_dir=ours.state_dir.rstrip("/"),
        root_helper=ours.root_helper,
        docker_url=ours.host_url,
        tls=_tls(ours),
        engine_timeout=ours.engine_timeout,
        defaults=_defaults(ours),
        shared_directory=ours.shared_directory,
        snapshots_directory=ours.snapshots_directory,
        image_size=ours.max_image_size_gb * GIB,
        disk_quota=ours.disk_quota,
        volumes=disks.Settings(
            mount_volumes=ours.mount_volumes,
            filesystem=ours.volume_filesystem,
            multipath=ours.volume_multipath,
            timeout=float(ours.volume_timeout),
        ),
        accept_forwarding=ours.accept_forwarding,
        bridge_taps=ours.bridge_taps,
        filter_taps=ours.filter_taps,
        user_namespaces=ours.require_user_namespaces,
    )


def policy(conf: cfg.ConfigOpts) -> server_policy.Policy:
    """Return what decides on user data.

    :raises InvalidRequest: an option says what can't be.
    """
    return server_policy.Policy(rules(conf))


def rules(conf: cfg.ConfigOpts) -> server_policy.Rules:
    """Return what the operator allows tenants.

    :raises InvalidRequest: an option says what can't be.
    """
    ours = conf.docker
    return server_policy.Rules(
        user_data_parameters=ours.user_data_parameters,
        ignored_user_data=frozenset(ours.ignored_user_data),
        allowed_host_paths=_modes("allowed_host_paths", ours.allowed_host_paths, "ro"),
        allowed_devices=_modes("allowed_devices", ours.allowed_devices, "r"),
        allowed_capabilities=(
            *_capabilities("capabilities", ours.capabilities),
            *_capabilities("allowed_capabilities", ours.allowed_capabilities),
        ),
        allow_privileged=ours.allow_privileged,
        allowed_host_namespaces=frozenset(ours.allowed_host_namespaces),
        allowed_links=_links(ours.allowed_links),
        allowed_volumes_from=_names(ours.allowed_volumes_from),
        allowed_host_ports=tuple(_range(each) for each in ours.allowed_host_ports),
        allowed_security_options=frozenset(ours.allowed_security_options),
        allow_restart_policies=ours.allow_restart_policies,
        allow_anonymous_volumes=ours.allow_anonymous_volumes,
    )


def _defaults(ours: cfg.ConfigOpts.GroupAttr) -> spec.Defaults:
    return spec.Defaults(
        pids=ours.pids_limit,
        capabilities=_capabilities("capabilities", ours.capabilities),
        no_new_privileges=ours.no_new_privileges,
        privileged=ours.privileged,
        security=_seccomp(ours.seccomp_profile),
        runtime=ours.runtime,
        log_size=ours.log_size_mb * nova_options.MIB or None,
    )


def _tls(ours: cfg.ConfigOpts.GroupAttr) -> containers.TLS | None:
    if ours.key_file and not ours.cert_file:
        raise _wrong("key_file", "needs cert_file beside it")
    if ours.ca_file or ours.cert_file or ours.api_insecure:
        return containers.TLS(
            ca_cert=ours.ca_file,
            client_cert=ours.cert_file,
            client_key=ours.key_file,
            verify=not ours.api_insecure,
        )
    url = urllib.parse.urlsplit(ours.host_url)
    if url.scheme == "tcp" and not _is_loopback(url.hostname or ""):
        raise _wrong("host_url", "would hand root to everybody on the way; set ca_file, for TLS")
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seccomp(path: str | None) -> tuple[str, ...]:
    """Return the engine's option with the profile in it, as its API wants."""
    if not path:
        return ()
    try:
        with open(path, encoding="utf-8") as file:
            return (f"seccomp={json.dumps(json.load(file), separators=(',', ':'))}",)
    except (OSError, ValueError) as exc:
        raise _wrong("seccomp_profile", f"can't be read: {exc}") from exc


def _capabilities(option: str, names: Iterable[str]) -> tuple[str, ...]:
    try:
        found = [parameter_values.capability(each) for each in names]
    except ValueError as exc:
        raise _wrong(option, f"must be {exc}") from exc
    return tuple(sorted(parameter_values.CAPABILITIES) if "ALL" in found else found)


def _modes(option: str, entries: Iterable[str], read_only: str) -> Mapping[str, bool]:
    """Return paths, and whether each is for reading only."""
    found = {}
    for entry in entries:
        path, colon, mode = entry.partition(":")
        try:
            parameter_values.path(path)
        except ValueError as exc:
            raise _wrong(option, f"must name {exc}, not {path!r}") from exc
        if colon and mode != read_only:
            raise _wrong(option, f"can have :{read_only} behind a path, not :{mode}")
        found[path] = bool(colon)
    return found


def _names(entries: Iterable[str]) -> Mapping[str, bool]:
    try:
        return dict(parameter_values.volumes_from(each) for each in entries)
    except ValueError as exc:
        raise _wrong("allowed_volumes_from", f"must be {exc}") from exc


def _links(entries: Mapping[str, str]) -> Mapping[str, str]:
    try:
        return {name: parameter_values.address(where) for name, where in entries.items()}
    except ValueError as exc:
        raise _wrong("allowed_links", f"must have {exc}, as redis3:192.0.2.7") from exc


def _range(entry: str) -> tuple[int, int]:
    low, dash, high = entry.partition("-")
    ends = (low, high if dash else low)
    if not all(end.isascii() and end.isdigit() and 0 < int(end) < 65536 for end in ends):
        raise _wrong("allowed_host_ports", f"must be ports, as 8080 or 11000-11999, not {entry!r}")
    if int(ends[0]) > int(ends[1]):
        raise _wrong("allowed_host_ports", f"must have the lower port first, not {entry!r}")
    return int(ends[0]), int(ends[1])


def _wrong(option: str, what: str) -> exceptions.InvalidRequest:
    return exceptions.InvalidRequest(f"Option {option} of [{SECTION}] in nova.conf {what}.")
