# SPDX-License-Identifier: Apache-2.0
"""Where things of ours lie on a Datera EDF array.

:raises InvalidRequest: the name can't be an app instance's.
"""

import re

from container_stack import exceptions
from container_stack.imagestore import edf_model as model

_NAME = re.compile(
    r"[a-zA-Z_][\w\-.]{2,63}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII
)


def instance(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise exceptions.InvalidRequest(
            f"{name!r} can't name an app instance: 3 to 64 letters, digits, _, - and ., the first "
            f"of them a letter or _."
        )
    return f"/app_instances/{name}"


def storage(name: str) -> str:
    return f"{instance(name)}/storage_instances/{model.STORAGE_INSTANCE}"


def volume(name: str) -> str:
    return f"{storage(name)}/volumes/{model.VOLUME}"
