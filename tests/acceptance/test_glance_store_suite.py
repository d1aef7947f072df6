# SPDX-License-Identifier: Apache-2.0
"""glance_store's own functional tests, as the installed package has them, pass over our store."""

import json
import os
import pathlib
import re
import subprocess
import sys

from . import arrays

#: What glance_store's tests look for, though they don't use it here.
_CLOUDS = """
clouds:
  devstack-admin:
    auth:
      auth_url: http://127.0.0.1:9/identity
      username: nobody
      password: nothing
      project_name: none
      user_domain_id: default
      project_domain_id: default
    identity_api_version: '3'
    volume_api_version: '3'
    region_name: nowhere
"""


def test_suite_of_glance_store(tmp_path: pathlib.Path) -> None:
    clouds, options = tmp_path / "clouds.yaml", tmp_path / "options.json"
    clouds.write_text(_CLOUDS)
    with arrays.running(tmp_path, "tgt", "libiscsi", "2.2.0") as array:
        options.write_text(json.dumps(array.options, default=str))
        result = subprocess.run(
            [sys.executable, "-m", "unittest", "-v", "acceptance.store_suite"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
                "OS_CLIENT_CONFIG_FILE": str(clouds),
                "STORE_OPTIONS": str(options),
            },
        )
        left = array.simulator.app_instances()

    assert result.returncode == 0, result.stderr
    assert set(re.findall(r"(test_\w+)\b[^\n]* ok$", result.stderr, re.M)) == {
        "test_add",
        "test_delete",
        "test_get",
        "test_get_size",
    }
    # The tests delete one of the four images that they store.
    assert len(left) == 3
