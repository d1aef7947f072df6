# SPDX-License-Identifier: Apache-2.0
"""What ``/api`` answers: the paths that there are, and what can be done at each.

Clients make their own interface from it (dfs_sdk, schema/reader.py): the names of paths, ``:name``
where a name stands, and the names of metrics.
"""

import re
from collections.abc import Iterable
from typing import Any

_VERBS = {"on_get": "read", "on_post": "create", "on_put": "update", "on_delete": "delete"}
#: dfs_sdk fails without them; the simulator measures nothing.
_METRICS = {
    "/metrics/io/:metric": ("reads", "writes", "bytes_read", "bytes_written"),
    "/metrics/hw/:metric": ("cpu_usage",),
}


def schema(paths: Iterable[tuple[str, type]]) -> dict[str, Any]:
    """Return it.

    :param paths: below the version, as falcon writes them, and the resource of each.
    """
    known: dict[str, Any] = {
        path: {"name": path, "read": {"urlParamSchema": {"metric": {"enum": list(names)}}}}
        for path, names in _METRICS.items()
    }
    for template, resource in paths:
        path = re.sub(r"\{(\w+)(:\w+)?\}", r":\1", template)
        verbs: dict[str, Any] = {
            verb: {} for method, verb in _VERBS.items() if hasattr(resource, method)
        }
        known[path] = {"name": path, **verbs}
    return known
