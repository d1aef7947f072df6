# SPDX-License-Identifier: Apache-2.0
"""Programs of this package that take care of themselves."""

from container_stack.rootwrap.commands.template import Command

# It takes no argument; what it does is its own: see container_stack.rootwrap.brick.
BRICK = Command("brick", "container-stack-brick", own=True)

ATTACH = (BRICK,)

# Losing the right to volumes ------------------------------------------------------------------

# Kills who uses what is mounted there, and unmounts it: see container_stack.rootwrap.fence.
OSD_FENCE = Command("osd_fence", "container-stack-fence {tree:tree}", own=True)
