# SPDX-License-Identifier: Apache-2.0
"""Loop devices."""

from container_stack.rootwrap.commands.template import Command

# --nooverlap returns the device that has the file already, so a repeated attach is harmless.
ATTACH = Command("loop_attach", "losetup --find --show --nooverlap {file:image}")
RESIZE = Command("loop_resize", "losetup --set-capacity {device:loop}")
DETACH = Command("loop_detach", "losetup --detach {device:loop}")

ALL = (ATTACH, RESIZE, DETACH)
