# SPDX-License-Identifier: Apache-2.0
"""What Amazon's library raises, in our words, without secrets."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import botocore.exceptions
import botocore.parsers

from container_stack import exceptions

#: How Amazon's codes begin, from "Error codes for the Amazon EC2 API", and what we call that.
_CODES: Sequence[tuple[type[exceptions.ContainerStackError], tuple[str, ...]]] = (
    (
        exceptions.AccessDenied,
        (
            *("AuthFailure", "UnauthorizedOperation", "InvalidClientTokenId", "Signature"),
            *("RequestExpired", "ExpiredToken", "OptInRequired", "Blocked", "AccessDenied"),
            *("MissingAuthenticationToken", "UnrecognizedClient", "InvalidAccessKeyId"),
        ),
    ),
    (
        exceptions.NotFound,
        (
            *("InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidInstanceID"),
            "InvalidAttachment.NotFound",
        ),
    ),
    (
        exceptions.NoSpace,
        (
            *("VolumeLimitExceeded", "SnapshotLimitExceeded", "MaxIOPSLimitExceeded"),
            *("InsufficientVolumeCapacity", "AttachmentLimitExceeded", "ConcurrentSnapshotLimit"),
        ),
    ),
    (
        exceptions.Busy,
        (
            *(
                "VolumeInUse",
                "IncorrectState",
                "IncorrectModificationState",
                "InvalidSnapshot.InUse",
            ),
            *("VolumeModificationRateExceeded", "SnapshotCreationPerVolumeRateExceeded"),
        ),
    ),
    (
        exceptions.InvalidRequest,
        ("Invalid", "Unknown", "Unsupported", "Missing", "VolumeModificationSizeLimit", "Kms"),
    ),
)


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """Translate the errors of Amazon's library, of which some quote what was sent."""
    try:
        yield
    except botocore.exceptions.ClientError as exc:
        raise _error(exc.response.get("Error", {})) from None
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
        botocore.exceptions.CredentialRetrievalError,
    ):
        raise exceptions.AccessDenied(
            "There are no keys for AWS: set aws_access_key_id and aws_secret_access_key, or give "
            "this instance a role."
        ) from None
    except (
        botocore.exceptions.BotoCoreError,
        botocore.parsers.ResponseParserError,
        ValueError,
    ) as exc:
        raise exceptions.ServiceUnavailable(f"EC2 doesn't answer: {type(exc).__name__}.") from None


def _error(error: Mapping[str, Any]) -> exceptions.ContainerStackError:
    code = str(error.get("Code", ""))[:60]
    if code.startswith(_CODES[0][1]):
        # What Amazon says may hold what was signed.
        return exceptions.AccessDenied(
            f"AWS refuses these keys ({code}): check aws_access_key_id, aws_secret_access_key and "
            "what they may do."
        )
    text = " ".join(str(error.get("Message", "")).split())[:200]
    for kind, codes in _CODES[1:]:
        if code.startswith(codes):
            return kind(f"EC2 refuses this ({code}): {text}")
    return exceptions.ServiceUnavailable(f"EC2 can't do this now ({code}): {text}")
