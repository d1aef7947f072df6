# SPDX-License-Identifier: Apache-2.0
"""Entry-point namespaces and how a plug-in is found in them.

An operator names a plug-in in a conf file; whoever wrote it registered that name as an entry
point. Nothing else in the project knows about entry points.
"""

from importlib import metadata
from typing import Any

import stevedore
import stevedore.exception

from container_stack import exceptions

#: Adapters between a service and the core; the value is the adapter class.
DRIVERS = "container_stack.drivers"
#: Implementations of :class:`container_stack.host.storage.Storage`; the value is a factory that
#: takes a :class:`container_stack.host.storage.Pool`.
STORAGE = "container_stack.storage"
#: Keepers of Open Storage's volumes; the value is a class of
#: :class:`container_stack.volumes.backend.Backend` that takes its Options.
VOLUME_BACKENDS = "container_stack.volume_backends"
#: Ways to reach a remote block device; the value is a factory of
#: :class:`container_stack.host.attach.Attacher` that takes an
#: :class:`container_stack.host.attach.Options`.
ATTACH = "container_stack.attach"


def names(namespace: str) -> list[str]:
    """Return the names registered in a namespace, sorted; broken plug-ins are listed too."""
    return sorted({point.name for point in metadata.entry_points(group=namespace)})


def load(namespace: str, name: str) -> Any:
    """Return what the entry point ``name`` stands for, imported but not called.

    :raises NotFound: nobody registered the name; the text lists the names that exist.
    :raises NotSupported: the plug-in exists and can't be imported; the text says why.
    """
    try:
        return stevedore.DriverManager(namespace, name, invoke_on_load=False).driver
    except stevedore.exception.NoMatches as exc:
        known = ", ".join(names(namespace)) or "none"
        if name in names(namespace):
            raise exceptions.NotSupported(f"{namespace} plug-in {name!r} is broken: {exc}") from exc
        raise exceptions.NotFound(f"No {namespace} plug-in {name!r}; there are: {known}.") from exc
    except ImportError as exc:
        raise exceptions.NotSupported(f"{namespace} plug-in {name!r} needs: {exc}.") from exc
