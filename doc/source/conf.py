# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration."""

import pathlib
import sys
from importlib import metadata

sys.path.insert(0, str(pathlib.Path(__file__).parent))

project = "container-stack"
author = "container-stack contributors"
project_copyright = "container-stack contributors"
release = metadata.version("container-stack")
version = release
extensions = ["sphinx.ext.autodoc", "oslo_config.sphinxext", "nova_directives", "osd_directives"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_mock_imports = [
    "e2b_dockerfile_utils",
    "keystoneauth1",
    "manila",
    "swiftclient",
    "tooz",
]
nitpicky = False
html_theme = "alabaster"
html_theme_options = {"description": "OpenStack drivers on Docker and LVM"}
