# SPDX-License-Identifier: Apache-2.0
"""Copying all that one volume holds to another."""

from container_stack.rootwrap.commands.template import Command

# Each file may be a tenant's, who goes on writing: see container_stack.rootwrap.copying.
COPY = Command(
    "copy_share",
    "container-stack-copy {source:mountpoint} {target:mountpoint} {since:count}",
    7 * 86400,
    slow=True,
    own=True,
)

ALL = (COPY,)

#: What that runs in turn.
PROGRAMS = ("bwrap", "rsync")
