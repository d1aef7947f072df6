# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg can't say: one package of ours lies in Nova's name space, and elsewhere here."""

import setuptools

#: Nova loads drivers from its own ``nova.virt`` only. Neither ``nova`` nor ``nova.virt`` is ours.
SHIM = "nova.virt.container_stack"

setuptools.setup(
    packages=[*setuptools.find_packages(include=["container_stack*"]), SHIM],
    package_dir={SHIM: "nova_shim/nova/virt/container_stack"},
)
