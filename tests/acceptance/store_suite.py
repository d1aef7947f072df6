# SPDX-License-Identifier: Apache-2.0
"""glance_store's own functional tests over the store ``datera``, in the form of a single store.

Run as ``python -m unittest acceptance.store_suite`` with the store's options as JSON in the file
that $STORE_OPTIONS names, and any cloud ``devstack-admin`` in the one that $OS_CLIENT_CONFIG_FILE
names.
"""

import json
import os
from pathlib import Path
from typing import Any

from glance_store import backend
from glance_store.tests.functional import base
from oslo_config import cfg

CONF = cfg.CONF
_OPTIONS: dict[str, Any] = json.loads(Path(os.environ["STORE_OPTIONS"]).read_text())

# The tests make their store the default one, for which glance_store admits its own stores only.
for _option in backend._STORE_OPTS:
    if _option.name == "default_store":
        _option.type.choices = None


class TestDatera(base.BaseFunctionalTests):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("datera", *args, **kwargs)

    def setUp(self) -> None:
        for name, value in _OPTIONS.items():
            CONF.set_override(name, value, group="glance_store")
        # Two tests store an image of the same id and leave it.
        tenant = f"/root/{self._testMethodName}"
        CONF.set_override("datera_tenant_id", tenant, group="glance_store")
        super().setUp()
