# SPDX-License-Identifier: Apache-2.0
"""What tenants may ask of their containers; everything that reaches the host is refused by default.

A refusal names the key and the option of ``[docker]`` in nova.conf that would allow it.
"""

import dataclasses
from collections.abc import Collection, Mapping

from container_stack import exceptions
from container_stack.servers import model
from container_stack.servers.wishes import (
    parameter_values,
    parameters,
    plain_data,
    policy_amounts,
    user_data,
)

#: Networks of the engine's that a document may name, since none of them is given anyway.
_NO_NETWORK_MODE = frozenset({"", "bridge", "default", "none"})
_OWN_NAMESPACE = frozenset({"", "private", "shareable", "none"})
_ALWAYS_ALLOWED = frozenset({"no-new-privileges", "no-new-privileges:true"})


class Refused(exceptions.InvalidRequest):
    """A tenant asks for what this cloud doesn't give him; nothing was changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """What an operator allows tenants; each field is called as the option is.

    :param ignored_user_data: keys that are passed over.
    :param allowed_host_paths: by path, whether for reading only; exact paths, none below.
    :param allowed_capabilities: without CAP_, those that servers have anyway among them.
    :param allowed_devices: by path, whether for reading only.
    :param allowed_host_namespaces: of "ipc" and "pid".
    :param allowed_links: address by name.
    :param allowed_volumes_from: by container's name, whether for reading only.
    :param allowed_host_ports: ranges, with both ends.
    """

    user_data_parameters: bool = True
    ignored_user_data: Collection[str] = ()
    allowed_host_paths: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    allowed_devices: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    allowed_capabilities: Collection[str] = ()
    allow_privileged: bool = False
    allowed_host_namespaces: Collection[str] = ()
    allowed_links: Mapping[str, str] = dataclasses.field(default_factory=dict)
    allowed_volumes_from: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    allowed_host_ports: Collection[tuple[int, int]] = ()
    allowed_security_options: Collection[str] = ()
    allow_restart_policies: bool = False
    allow_anonymous_volumes: bool = True


class Policy:
    """Decides on what tenants ask for."""

    def __init__(self, rules: Rules = Rules()) -> None:
        self._rules = rules

    def admit(
        self,
        parsed: user_data.Parsed,
        *,
        limits: model.Limits = model.Limits(),  # noqa: B008 - it is frozen
        strict: bool = True,
        image: Collection[str] | None = None,
        macs: Collection[str] | None = None,
    ) -> model.Wish:
        """Return what the tenant wishes and may have.

        :param limits: of the flavor; he may choose less, and never more.
        :param strict: refuse what is more; else he gets what there is, as after a resize.
        :param image: what the image that he boots from may be called; None admits any.
        :param macs: addresses of his ports; None admits any.
        :raises Refused: he may not; the message names the key and the option.
        :raises InvalidRequest: a key or a value can't be; the message names it.
        """
        if parsed.parameters is None or not self._rules.user_data_parameters:
            return model.Wish()
        asked = parameters.read(parsed.parameters, self._rules.ignored_user_data)
        self._check_host(asked)
        self._check_rights(asked)
        _check_facts(asked, image, macs)
        memory, swap = policy_amounts.memory(asked, limits, strict=strict)
        return model.Wish(
            command=asked.command,
            entrypoint=asked.entrypoint,
            user=asked.user,
            environment=asked.environment,
            working_dir=asked.working_dir,
            hostname=asked.hostname or (asked.name or "").removeprefix("/") or None,
            domainname=asked.domainname,
            dns=asked.dns,
            dns_search=asked.dns_search,
            hosts=(*asked.extra_hosts, *self._links(asked)),
            tty=asked.tty,
            open_stdin=asked.open_stdin,
            memory=memory,
            swap=swap,
            cpu_shares=policy_amounts.cpu_shares(asked, limits, strict=strict),
            cpuset=policy_amounts.cpuset(asked, limits, strict=strict),
            volumes=self._volumes(asked),
            volumes_from=self._volumes_from(asked),
            drop_capabilities=_dropped(asked),
            add_capabilities=_each(asked.add_capabilities),
            privileged=asked.privileged,
            devices=self._devices(asked),
            published=self._published(asked),
            restart=asked.restart,
            host_namespaces=self._namespaces(asked),
            security=asked.security_options,
        )

    # What is the host's -------------------------------------------------------------------

    def _check_host(self, asked: parameters.Asked) -> None:
        if asked.publish_all:
            raise Refused(
                f"{asked.keys['publish_all']} is refused: ports of the host are published one by "
                "one, by PortBindings; the operator allows them by [docker] allowed_host_ports."
            )
        if asked.restart != "no" and not self._rules.allow_restart_policies:
            raise _refused(asked, "restart", asked.restart, "allow_restart_policies")
        if asked.network_mode is not None and asked.network_mode not in _NO_NETWORK_MODE:
            raise Refused(
                f"{asked.keys['network_mode']} {plain_data.shown(asked.network_mode)} is refused: "
                "a server's networks are those of its ports, and no option allows another."
            )

    def _volumes(self, asked: parameters.Asked) -> tuple[tuple[str, str, bool], ...]:
        """Return the volumes; one of the host takes the place of one of the server's own."""
        for source, target, read_only in asked.volumes:
            if not source:
                if not self._rules.allow_anonymous_volumes:
                    raise _refused(asked, "volumes", target, "allow_anonymous_volumes")
                continue
            _check_path(
                asked, "volumes", source, read_only, self._rules.allowed_host_paths, "host_paths"
            )
        bound = [target for source, target, _ in asked.volumes if source]
        twice = next((target for target in bound if bound.count(target) > 1), None)
        if twice is not None:
            raise exceptions.InvalidRequest(
                f"{asked.keys['volumes']} names {plain_data.shown(twice)} twice."
            )
        return tuple(each for each in asked.volumes if each[0] or each[1] not in bound)

    def _volumes_from(self, asked: parameters.Asked) -> tuple[tuple[str, bool], ...]:
        for name, read_only in asked.volumes_from:
            allowed = self._rules.allowed_volumes_from
            _check_path(asked, "volumes_from", name, read_only, allowed, "volumes_from")
        return asked.volumes_from

    def _devices(self, asked: parameters.Asked) -> tuple[tuple[str, str, str], ...]:
        for source, _, access in asked.devices:
            allowed = self._rules.allowed_devices
            _check_path(asked, "devices", source, "w" not in access, allowed, "devices")
        return asked.devices

    def _links(self, asked: parameters.Asked) -> tuple[tuple[str, str], ...]:
        known = self._rules.allowed_links
        for name, _ in asked.links:
            if name not in known:
                raise _refused(asked, "links", name, "allowed_links")
        return tuple((alias, known[name]) for name, alias in asked.links)

    def _published(self, asked: parameters.Asked) -> tuple[tuple[str, str], ...]:
        for inner, outer in asked.published:
            if not any(
                low <= int(outer or 0) <= high for low, high in self._rules.allowed_host_ports
            ):
                what = outer or f"any for {inner}"
                raise _refused(asked, "published", what, "allowed_host_ports")
        return asked.published

    def _namespaces(self, asked: parameters.Asked) -> tuple[str, ...]:
        shared = []
        for kind, mode in (("ipc", asked.ipc_mode), ("pid", asked.pid_mode)):
            if mode is None or mode in _OWN_NAMESPACE:
                continue
            if mode != "host" or kind not in self._rules.allowed_host_namespaces:
                raise _refused(asked, f"{kind}_mode", mode, "allowed_host_namespaces")
            shared.append(kind)
        return tuple(shared)

    # What its process may -----------------------------------------------------------------

    def _check_rights(self, asked: parameters.Asked) -> None:
        if asked.privileged and not self._rules.allow_privileged:
            raise _refused(asked, "privileged", "true", "allow_privileged")
        for each in _each(asked.add_capabilities):
            if each not in self._rules.allowed_capabilities:
                raise _refused(asked, "add_capabilities", each, "allowed_capabilities")
        for option in asked.security_options:
            if option not in {*_ALWAYS_ALLOWED, *self._rules.allowed_security_options}:
                raise _refused(asked, "security_options", option, "allowed_security_options")


def _refused(asked: parameters.Asked, field: str, value: str, option: str) -> Refused:
    return Refused(
        f"{asked.keys[field]} {plain_data.shown(value)} is refused; the operator can allow it by "
        f"[docker] {option}."
    )


def _each(capabilities: Collection[str]) -> tuple[str, ...]:
    if "ALL" in capabilities:
        return tuple(sorted(parameter_values.CAPABILITIES))
    return tuple(capabilities)


def _dropped(asked: parameters.Asked) -> tuple[str, ...]:
    """Return what he gives up; of "ALL" he keeps what he adds by name."""
    dropped = _each(asked.drop_capabilities)
    kept = asked.add_capabilities if "ALL" in asked.drop_capabilities else ()
    return tuple(each for each in dropped if each not in kept)


def _check_path(
    asked: parameters.Asked,
    field: str,
    wanted: str,
    read_only: bool,
    allowed: Mapping[str, bool],
    option: str,
) -> None:
    """Refuse what isn't on a list, or is there for reading only and wanted for more."""
    if wanted not in allowed:
        raise _refused(asked, field, wanted, f"allowed_{option}")
    if allowed[wanted] and not read_only:
        raise Refused(
            f"{asked.keys[field]} {plain_data.shown(wanted)} is refused but for reading only, by "
            f"[docker] allowed_{option}."
        )


def _check_facts(
    asked: parameters.Asked, image: Collection[str] | None, macs: Collection[str] | None
) -> None:
    """Refuse what a tenant takes for so and isn't; it is chosen elsewhere."""
    if asked.image and image is not None and asked.image not in image:
        raise Refused(
            f"{asked.keys['image']} {plain_data.shown(asked.image)} is not the image that the "
            "server is made from; leave it out."
        )
    if asked.network_disabled and macs:
        raise Refused(
            f"{asked.keys['network_disabled']} is for servers without networks; create it with "
            "--nic none."
        )
    if asked.mac and macs is not None and asked.mac not in macs:
        raise Refused(
            f"{asked.keys['mac']} {asked.mac} is that of no port of the server; make a port with "
            "it and create the server with that port."
        )
