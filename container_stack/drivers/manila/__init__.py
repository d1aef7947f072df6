# SPDX-License-Identifier: Apache-2.0
"""Manila: share servers in containers.

In manila.conf::

    share_driver = container_stack.drivers.manila.ContainerShareDriver
"""

from container_stack.drivers.manila.driver import ContainerShareDriver

__all__ = ["ContainerShareDriver"]
