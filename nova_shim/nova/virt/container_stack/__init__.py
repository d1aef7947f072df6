# SPDX-License-Identifier: Apache-2.0
"""Where Nova looks for ``compute_driver = container_stack.DockerDriver``."""

from container_stack.drivers.nova.driver import DockerDriver

__all__ = ["DockerDriver"]
