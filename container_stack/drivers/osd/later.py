# SPDX-License-Identifier: Apache-2.0
"""How releases from 2016 on put their answers: protocol buffers in Go's JSON (api.proto).

That encoder leaves out what is zero or empty, and writes enumerations as numbers. We leave out
what is empty only where the original's clients look whether it is there: errors and results.
"""

import dataclasses

from container_stack.drivers.osd import body, forms
from container_stack.volumes import model

#: Numbers of VolumeStatus and VolumeState.
_STATUS = {
    model.Status.NOT_PRESENT: 1,
    model.Status.UP: 2,
    model.Status.DOWN: 3,
    model.Status.DEGRADED: 4,
}
_STATES = (
    model.State.PENDING,
    model.State.AVAILABLE,
    model.State.ATTACHED,
    model.State.DETACHED,
    model.State.DETACHING,
    model.State.ERROR,
    model.State.DELETED,
)
_NUMBERS = {name: number for number, name in enumerate(body.FILESYSTEMS)}


class Later:
    """A :class:`forms.Form`: underlines, numbers for words, errors within a volume_response."""

    def volume(self, volume: model.Volume) -> forms.Json:
        """Beside the original's numbers, the names of file systems that it has no number for."""
        spec = volume.spec
        made = forms.moment(volume.created_at)
        return {
            "id": volume.id,
            "source": {"parent": volume.source.parent, "seed": volume.source.seed},
            "readonly": volume.read_only,
            "locator": {"name": volume.name, "volume_labels": dict(volume.labels)},
            "ctime": made,
            "spec": {
                "ephemeral": spec.ephemeral,
                "size": spec.size,
                "format": _NUMBERS.get(spec.filesystem, 0),
                "format_name": spec.filesystem,
                "block_size": spec.block_size,
                "ha_level": spec.ha_level,
                "cos": spec.cos,
                "dedupe": spec.dedupe,
                "snapshot_interval": spec.snapshot_interval,
                "snapshot_keep": spec.snapshot_keep,
                "volume_labels": dict(spec.labels),
            },
            "usage": volume.usage,
            "last_scan": forms.moment(volume.last_scan) if volume.last_scan else made,
            "format": _NUMBERS.get(volume.format, 0),
            "format_name": volume.format,
            "status": _STATUS[volume.status],
            "state": state(volume.state),
            "node_id": volume.node_id,
            "attached_on": volume.attached_on,
            "device_path": volume.device_path,
            "attach_path": list(volume.mount_paths),
            "error": volume.error,
        }

    def created(self, volume_id: str, error: str) -> forms.Json:
        """An id, or an error."""
        made = {"id": volume_id} if volume_id else {}
        return {**made, "volume_response": self.done(error)}

    def snapshotted(self, volume_id: str, error: str) -> forms.Json:
        """As of a volume, one level deeper."""
        return {"volume_create_response": self.created(volume_id, error)}

    def changed(self, _change: body.Change, volume: model.Volume | None, error: str) -> forms.Json:
        """The volume as it is now, or an error."""
        if volume is None:
            return {"volume_response": self.done(error)}
        return {"volume": self.volume(volume)}

    def done(self, error: str) -> forms.Json:
        """Nothing, or an error."""
        return {"error": error} if error else {}

    def stats(self, stats: model.Stats) -> forms.Json:
        """What the kernel counts of a device."""
        return dataclasses.asdict(stats)


def state(found: model.State) -> int:
    """Return a state's number, where several are set the last one's."""
    return max((n for n, one in enumerate(_STATES, start=1) if one & found), default=0)
