# SPDX-License-Identifier: Apache-2.0
"""Nova's instances as plans of servers."""

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

from container_stack import exceptions
from container_stack.drivers.nova import disks, limits, metadata, ports
from container_stack.servers import model
from container_stack.servers.wishes import policy, user_data


@dataclasses.dataclass(frozen=True, slots=True)
class Secrets:
    """What Nova hands a new server besides what it keeps."""

    injected_files: Sequence[tuple[str, Any]] = ()
    admin_password: str | None = dataclasses.field(default=None, repr=False)


class Plans:
    """Makes plans within what the operator lets tenants have.

    :param admitting: judges what tenants say in user data.
    :param inject_key: write a server's key into it.
    """

    def __init__(self, admitting: policy.Policy, *, inject_key: bool = False) -> None:
        self._policy = admitting
        self._inject_key = inject_key

    def plan(
        self,
        instance: Any,
        image_meta: Any,
        network_info: Any,
        block_device_info: Any = None,
        secrets: Secrets | None = None,
    ) -> model.Plan:
        """Return all that makes a server, for who makes its container.

        :raises InvalidRequest: the tenant, or the flavor, asks for what can't be.
        """
        key = instance.key_data if self._inject_key and secrets else None
        secrets = secrets or Secrets()
        parsed = user_data.parse(user_data.decode(instance.user_data))
        files = metadata.drive(
            instance,
            network_info,
            secrets.injected_files,
            secrets.admin_password,
            wanted=parsed.passed_on,
        )
        standing = self.standing(instance, network_info, block_device_info)
        disks.refuse_boot(standing.disks)
        own = limits.limits(instance)
        # What is made again keeps its wish, as far as its flavor and its image are those yet.
        new = instance.launched_at is None
        wish = self._policy.admit(
            parsed,
            limits=own,
            strict=new,
            image=_names(image_meta) if new else None,
            macs=[port.mac for port in standing.ports] if new else None,
        )
        return dataclasses.replace(
            standing,
            limits=own,
            wish=_with_command(wish, image_meta),
            environment=metadata.environment(instance),
            files=files,
            key=key or "",
            ephemerals=disks.ephemerals(block_device_info, instance.flavor.ephemeral_gb),
        )

    def standing(
        self, instance: Any, network_info: Any, block_device_info: Any = None
    ) -> model.Plan:
        """Return what a server needs whose container there is: its ports and disks."""
        return model.Plan(
            id=instance.uuid,
            name=instance.name,
            hostname=instance.hostname or instance.uuid,
            ports=ports.ports(network_info),
            disks=disks.disks(block_device_info),
        )


def _names(image_meta: Any) -> list[str] | None:
    """Return what the tenant may call the image; None when Nova itself doesn't know."""
    known = [getattr(image_meta, key) for key in ("id", "name") if image_meta.obj_attr_is_set(key)]
    return [each for each in known if each] or None


def _with_command(wish: model.Wish, image_meta: Any) -> model.Wish:
    """Let the image's property ``os_command_line`` be the command, if the tenant names none."""
    line = image_meta.properties.get("os_command_line")
    if not line or wish.command is not None:
        return wish
    try:
        return dataclasses.replace(wish, command=tuple(shlex.split(line)))
    except ValueError as exc:
        raise exceptions.InvalidRequest(
            f"The image's property os_command_line can't be read: {exc}."
        ) from exc
