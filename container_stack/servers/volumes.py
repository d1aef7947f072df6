# SPDX-License-Identifier: Apache-2.0
"""The anonymous volumes of servers: what their images declare, and what their tenants asked for.

They are no part of a container's root, and so of none of its states: what is in them goes to the
server's next container by archive, with owners, modes and links as they are.
"""

from collections.abc import Iterator, Sequence

from container_stack.host import containers


def targets(container: containers.Container) -> Sequence[str]:
    """Return where a container has volumes that it may write to, one in another behind that."""
    found = (each for each in container.mounts if each.kind == "volume" and not each.read_only)
    return sorted(each.target for each in found)


def empty(places: Sequence[str]) -> Sequence[containers.Mount]:
    """Return volumes that don't begin with what the image has there, so that nothing comes back
    that was deleted.
    """
    return [containers.Mount("", each, "volume", copy=False) for each in places]


def read(engine: containers.Engine, container_id: str, target: str) -> Iterator[bytes]:
    """Yield what is in a volume, as a tar archive of names relative to it."""
    return engine.get_archive(container_id, f"{target.rstrip('/')}/.")


def copy(engine: containers.Engine, source: containers.Container, into: str) -> None:
    """Fill the volumes of a container that doesn't run with what is in another's.

    :param into: its id; it has volumes at the same places.
    """
    for target in targets(source):
        engine.put_archive(into, target, read(engine, source.id, target))
