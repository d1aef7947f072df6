# SPDX-License-Identifier: Apache-2.0
"""Nova: containers as servers; see :mod:`container_stack.drivers.nova.driver`."""
