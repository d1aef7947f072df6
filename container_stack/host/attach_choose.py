# SPDX-License-Identifier: Apache-2.0
"""Which way to reach remote volumes: the operator's, else the first that works on this host."""

from typing import cast

from container_stack import exceptions, plugins
from container_stack.host import attach

#: Tried in this order when the operator names none: the kernel's initiator knows multipath.
AUTOMATIC = ("brick", "libiscsi")


def choose(name: str | None, options: attach.Options) -> attach.Attacher:
    """Return the attacher of a name, or with None the first that this host is ready for.

    A named one isn't checked: a host may become ready later.

    :raises NotFound: nobody registered the name.
    :raises NotSupported: its plug-in can't be imported.
    :raises HostNotReady: this host is ready for none; the text says what each lacks.
    """
    if name is not None:
        return _open(name, options)
    lacking = []
    for each in AUTOMATIC:
        try:
            attacher = _open(each, options)
            attacher.check()
        except (exceptions.HostNotReady, exceptions.NotSupported, exceptions.NotFound) as exc:
            lacking.append(f"{each}: {exc}")
        else:
            return attacher
    raise exceptions.HostNotReady(
        "Remote volumes can't be reached from this host. " + " ".join(lacking)
    )


def _open(name: str, options: attach.Options) -> attach.Attacher:
    return cast(attach.Attacher, plugins.load(plugins.ATTACH, name)(options))
