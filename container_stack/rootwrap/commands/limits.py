# SPDX-License-Identifier: Apache-2.0
"""How much may be read from a device and written to it; 0 is without limit."""

from container_stack.rootwrap.commands.template import Command

# The daemon does these itself: see container_stack.rootwrap.limit.
CONTAINER = Command(
    "limit_container",
    "container-stack-limit container {device:device} {container:container} {pid:size}"
    " {rbps:count} {wbps:count} {riops:count} {wiops:count}",
    inside=True,
)
KERNEL = Command(
    "limit_kernel",
    "container-stack-limit kernel {device:device} {wbps:count} {wiops:count}",
    inside=True,
)

ALL = (CONTAINER, KERNEL)
