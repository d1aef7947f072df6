# SPDX-License-Identifier: Apache-2.0
"""How OSD 0.3, the original, puts its answers (its api package, and recorded exchanges)."""

from collections.abc import Mapping

from container_stack.drivers.osd import body, forms
from container_stack.volumes import model


class Original:
    """A :class:`forms.Form`: capitals, the words of states, errors beside results."""

    def volume(self, volume: model.Volume) -> forms.Json:
        """What has no value is null, as in Go: a volume that began empty has no source."""
        spec, source = volume.spec, volume.source
        made = forms.rfc3339(volume.created_at)
        return {
            "ID": volume.id,
            "Source": {"Parent": source.parent, "Seed": source.seed}
            if source.parent or source.seed
            else None,
            "Readonly": volume.read_only,
            "Locator": {"Name": volume.name, "VolumeLabels": _labels(volume.labels)},
            "Ctime": made,
            "Spec": {
                "Ephemeral": spec.ephemeral,
                "Size": spec.size,
                "Format": spec.filesystem,
                "BlockSize": spec.block_size,
                "HALevel": spec.ha_level,
                "Cos": spec.cos,
                "Dedupe": spec.dedupe,
                "SnapshotInterval": spec.snapshot_interval,
                "ConfigLabels": _labels(spec.labels),
            },
            "Usage": volume.usage,
            "LastScan": forms.rfc3339(volume.last_scan) if volume.last_scan else made,
            "Format": volume.format,
            "Status": volume.status.value,
            "State": int(volume.state),
            "AttachedOn": volume.attached_on,
            "DevicePath": volume.device_path,
            "AttachPath": volume.mount_paths[0] if volume.mount_paths else "",
            "ReplicaSet": None,
            "Error": volume.error,
        }

    def created(self, volume_id: str, error: str) -> forms.Json:
        """Of volumes and snapshots alike."""
        return {"id": volume_id, "error": error}

    snapshotted = created

    def changed(self, change: body.Change, volume: model.Volume | None, error: str) -> forms.Json:
        """What was asked for, with the paths that it led to; nothing of it after an error."""
        if volume is None:
            nothing = {"format": 0, "attach": 0, "mount": 0, "mount_path": "", "device_path": ""}
            return {**nothing, "error": error}
        return {
            "format": change.format,
            "attach": change.attach,
            "mount": change.mount,
            "mount_path": change.mount_path,
            "device_path": change.device_path,
            "error": error,
        }

    def done(self, error: str) -> forms.Json:
        """Always an "error"."""
        return {"error": error}

    def stats(self, stats: model.Stats) -> forms.Json:
        """What the kernel counts of a device."""
        return {
            "Reads": stats.reads,
            "ReadMs": stats.read_ms,
            "ReadBytes": stats.read_bytes,
            "Writes": stats.writes,
            "WriteMs": stats.write_ms,
            "WriteBytes": stats.write_bytes,
            "IOProgress": stats.io_progress,
            "IOMs": stats.io_ms,
        }


def _labels(labels: Mapping[str, str]) -> dict[str, str] | None:
    return dict(labels) or None
