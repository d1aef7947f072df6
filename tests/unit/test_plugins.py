# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from container_stack import exceptions, plugins


def test_shipped_storage_is_found_by_name():
    assert {"loop", "lvm"} <= set(plugins.names(plugins.STORAGE))


def test_unknown_plugin_is_answered_with_the_known_ones():
    with pytest.raises(exceptions.NotFound, match=r"there are: .*loop"):
        plugins.load(plugins.STORAGE, "flop")


@pytest.fixture
def broken_plugin(tmp_path, monkeypatch):
    info = tmp_path / "cstest_broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cstest-broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[cstest.broken]\ngone = cstest_no_such_module:Thing\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return "cstest.broken"


def test_broken_plugin_is_named_with_its_reason(broken_plugin):
    assert plugins.names(broken_plugin) == ["gone"]
    with pytest.raises(exceptions.NotSupported, match="cstest_no_such_module"):
        plugins.load(broken_plugin, "gone")
