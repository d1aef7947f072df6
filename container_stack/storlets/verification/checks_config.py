# SPDX-License-Identifier: Apache-2.0
"""Checks 2, 3, 4 and 11: what an image claims and is configured to do; what the gateway allows.

ENTRYPOINT and CMD do no harm with storlets 18, whose gateway gives both, and break the engine of
releases before 13: that they stay the base's is policy. So is that there is no HEALTHCHECK: it
would run inside the sandbox, beside the storlets and within their limits, as long as the sandbox
lives. USER makes no difference, since the gateway gives that too, and neither do EXPOSE (there is
no network) and STOPSIGNAL.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import images
from container_stack.host.image_archive import layers as image_layers
from container_stack.storlets import gateway, model
from container_stack.storlets.verification import base as bases
from container_stack.storlets.verification import checks, report

#: Where the gateway mounts what is the host's; a volume of the image's would lie over it or below.
MOUNTS = ("/mnt/channels", "/var/lib/storlets", gateway.NATIVE, "/dev/log")
#: What a sandbox needs at least for Python to start: bytes, processes and threads.
MEMORY_FLOOR, PIDS_FLOOR = 32 * 1024**2, 4


def names(claimed: Sequence[str], image_id: str, engine_images: images.Images) -> report.Finding:
    """Check 2: the archive's own names are never used; a name that somebody has is told."""
    taken = [
        name
        for name in claimed[:16]
        if (found := _find(engine_images, name)) is not None and found.id != image_id
    ]
    if taken:
        return checks.warning(
            checks.NAMES,
            f"It calls itself {checks.quoted(taken)}, which is another image here. It won't get "
            "that name: it is known by its ID.",
            "Save the image under a name of its own.",
        )
    return checks.passed(
        checks.NAMES,
        f"It calls itself {checks.quoted(claimed)}; that is ignored."
        if claimed
        else "It claims no name.",
    )


def _find(engine_images: images.Images, name: str) -> images.Image | None:
    try:
        return engine_images.find(name)
    except exceptions.InvalidRequest:
        return None


def base(
    config: Mapping[str, Any], layers: Sequence[str], base_image: bases.Base
) -> report.Finding:
    """Check 3: the image stands on the operator's base image, and is for the same machines."""
    machine = (config.get("os"), config.get("architecture"))
    if machine != (base_image.os, base_image.architecture):
        return checks.failed(
            checks.BASE,
            f"It is for {checks.quoted(map(str, machine))}, the nodes are "
            f"{base_image.os}, {base_image.architecture}.",
            "Build it on a machine of the nodes' architecture.",
        )
    if tuple(layers[: len(base_image.layers)]) != base_image.layers:
        shared = image_layers.shared(layers, base_image.layers)
        return checks.failed(
            checks.BASE,
            f"It shares {shared} of the {len(base_image.layers)} layers of the base image.",
            "Download the base image anew, name it in FROM, build again, and don't squash layers.",
        )
    return checks.passed(
        checks.BASE, f"{len(layers) - len(base_image.layers)} layers over the base image."
    )


def command(config: Mapping[str, Any], base_image: bases.Base) -> report.Finding:
    """Check 4: it starts as the base image does, and leaves the gateway's mounts alone."""
    found = list(_commands(config, base_image))
    if found:
        details, lines = zip(*found, strict=True)
        return checks.failed(
            checks.COMMAND,
            "; ".join(details),
            f"Remove {', '.join(dict.fromkeys(lines))} from the Dockerfile and build again.",
        )
    return checks.passed(checks.COMMAND, "It starts as the base image does.")


def _commands(config: Mapping[str, Any], base_image: bases.Base) -> Sequence[tuple[str, str]]:
    entrypoint, cmd = bases.words(config, "Entrypoint"), bases.words(config, "Cmd")
    found = []
    if entrypoint != base_image.entrypoint:
        found.append((f"ENTRYPOINT is {checks.quoted(entrypoint) or 'removed'}", "ENTRYPOINT"))
    if cmd != base_image.command:
        found.append((f"CMD is {checks.quoted(cmd) or 'removed'}", "CMD"))
    if config.get("OnBuild"):
        found.append(("ONBUILD is set", "ONBUILD"))
    if config.get("Healthcheck") and config["Healthcheck"] != base_image.config.get("Healthcheck"):
        found.append(("HEALTHCHECK would run beside the storlets", "HEALTHCHECK"))
    volumes = [each for each in config.get("Volumes") or () if _touches_mounts(str(each))]
    if volumes:
        found.append((f"VOLUME {checks.quoted(volumes)} is where the gateway mounts", "VOLUME"))
    return found


def _touches_mounts(path: str) -> bool:
    return any(within(path, mount) or within(mount, path) for mount in MOUNTS)


def within(path: str, directory: str) -> bool:
    """Tell whether a path of the image is a directory, or lies below it, whatever its dots say."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    wanted = directory.strip("/").split("/") if directory.strip("/") else []
    return parts[: len(wanted)] == wanted


def limits(wanted: model.Limits) -> report.Finding:
    """Check 11: sandboxes are limited, and not so much that Python can't start."""
    if wanted.missing:
        return checks.failed(
            checks.LIMITS,
            f"The gateway's configuration leaves out {', '.join(wanted.missing)}: a storlet could "
            "take all of a node.",
            "Set container_mem_limit (bytes), container_cpu_quota (µs per container_cpu_period) "
            "and container_pids_limit in the gateway's configuration on every node.",
        )
    low = [
        f"{name} is {value}, {floor} is needed"
        for name, value, floor in (
            ("container_mem_limit", wanted.memory, MEMORY_FLOOR),
            ("container_pids_limit", wanted.pids, PIDS_FLOOR),
        )
        if value is not None and value < floor
    ]
    if low:
        return checks.failed(
            checks.LIMITS,
            "; ".join(low) + ".",
            "Raise it in the gateway's configuration on every node: no Python starts below.",
        )
    return checks.passed(
        checks.LIMITS,
        f"memory {wanted.memory} bytes, CPU {wanted.cpu_quota} of "
        f"{wanted.cpu_period or 100_000} µs, {wanted.pids} processes",
    )
