# SPDX-License-Identifier: Apache-2.0
"""Settings of the driver for EBS that are more than texts."""

from typing import Any

from container_stack import exceptions
from container_stack.volumes import backend

_TIMEOUT = "300"


def patience(options: backend.Options) -> float:
    """Return the seconds for which EC2 is waited for.

    :raises InvalidRequest: the setting is no number.
    """
    text = options.settings.get("timeout") or _TIMEOUT
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 86400:
        raise exceptions.InvalidRequest(f"{options.name}: timeout is a number from 1 to 86400.")
    return float(text)


def spec(options: backend.Options) -> dict[str, Any]:
    """Return what EC2 is told of each new disk.

    :raises InvalidRequest: a setting can't be meant.
    """
    settings = options.settings
    told: dict[str, Any] = {"VolumeType": settings.get("volume_type") or "gp3"}
    if iops := settings.get("iops"):
        if not iops.isascii() or not iops.isdigit():
            raise exceptions.InvalidRequest(f"{options.name}: iops is a number.")
        told["Iops"] = int(iops)
    encrypted = settings.get("encrypted") or ("true" if settings.get("kms_key_id") else "")
    if encrypted not in ("", "true", "false"):
        raise exceptions.InvalidRequest(f"{options.name}: encrypted is true or false.")
    if encrypted == "true":
        told["Encrypted"] = True
    if key := settings.get("kms_key_id"):
        told["KmsKeyId"] = key
    return told
