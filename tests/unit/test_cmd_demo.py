# SPDX-License-Identifier: Apache-2.0
"""What the demo stands on, as far as it needs no engine."""

import hashlib

import pytest

from container_stack.cmd.demo import host

manila_backend = pytest.importorskip(
    "container_stack.cmd.demo.manila_backend", reason="needs the extra `manila`"
)


def test_the_tree_is_some_two_hundred_real_and_different_files():
    files = host.tree()
    assert len(files) == 200
    assert len({hashlib.sha256(p.read_bytes()).digest() for p in files.values()}) > 190
    assert all(name.startswith("library/") for name in files)


def test_private_storage_keeps_what_a_driver_puts_there():
    storage = manila_backend.PrivateStorage()
    assert storage.get("a") == {}
    storage.update("a", {"x": "1"})
    storage.update("a", {"y": "2"})
    assert storage.get("a") == {"x": "1", "y": "2"}
    assert storage.get("a", "z", "none") == "none"
    storage.delete("a", "x")
    assert storage.get("a") == {"y": "2"}
    storage.update("a", {"z": "3"}, delete_existing=True)
    assert storage.get("a") == {"z": "3"}
    storage.delete("a")
    assert storage.get("a") == {}
