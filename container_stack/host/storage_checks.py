# SPDX-License-Identifier: Apache-2.0
"""The checks of input that all storage backends have in common."""

import re
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.host import filesystem, storage

_ID = re.compile(r"(?=.{1,63}\Z)[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
_TEXT = re.compile(r"[\x20-\x7e\u00a0-\U0010ffff]{0,255}")


def check_id(name: str) -> None:
    """Refuse what can't be the id of a volume or snapshot.

    :raises InvalidRequest: naming the rule.
    """
    if not _ID.fullmatch(name):
        raise exceptions.InvalidRequest(
            f"{name!r} can't be an id: use a-z, 0-9, '-', '_' and single dots within, at most 63."
        )


def check_size(size: int, kind: str) -> None:
    """Refuse a size that can't hold a file system of this kind.

    :raises InvalidRequest: naming the least size.
    """
    least = filesystem.minimum_size(kind)
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise exceptions.InvalidRequest(
            f"{size!r} can't be a volume's size: {kind} needs at least {least} bytes."
        )
    if size >= 2**62:
        raise exceptions.InvalidRequest(f"{size} bytes are more than any file system can hold.")


def check_words(owner: str, labels: Mapping[str, str]) -> None:
    """Refuse an owner or labels that not every backend could keep.

    :raises InvalidRequest: a label's key is no id, or a text is too long or holds control
        characters.
    """
    for key in labels:
        check_id(key)
    for text in (owner, *labels.values()):
        if not isinstance(text, str) or not _TEXT.fullmatch(text):
            raise exceptions.InvalidRequest(
                f"{text!r} can't be an owner or a label: at most 255 printable characters."
            )


def merge_labels(old: Mapping[str, str], change: Mapping[str, str | None]) -> dict[str, str]:
    """Return ``old`` with the labels of ``change`` set, and those that are None removed."""
    merged = {**old, **change}
    return {key: value for key, value in merged.items() if value is not None}


def clone_size(snapshot_id: str, least: int, size: int | None) -> int:
    """Return the size that a clone is to have.

    :raises InvalidRequest: what is wanted is smaller than the snapshot.
    """
    if size is None:
        return least
    if size < least:
        raise exceptions.InvalidRequest(f"A clone of {snapshot_id} needs at least {least} bytes.")
    return size


def refuse_snapshots(volume_id: str, kept: Sequence[storage.Snapshot]) -> None:
    """Refuse to delete a volume that has snapshots.

    :raises Busy: naming them.
    """
    if kept:
        names = ", ".join(snapshot.id for snapshot in kept)
        raise exceptions.Busy(f"{volume_id} has snapshots, delete them first: {names}.")
