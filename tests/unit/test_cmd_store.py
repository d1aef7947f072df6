# SPDX-License-Identifier: Apache-2.0
"""Which Datera store a command is about: one of several, the only one, or the old single one."""

import argparse

import pytest

from container_stack import exceptions
from container_stack.cmd import store

SEVERAL = """\
[DEFAULT]
enabled_backends = disk:file, {enabled}
[glance_store]
default_backend = disk
[fast]
datera_san_ip = 192.0.2.7
datera_san_login = admin
datera_san_password = swordfish
datera_tenant_id = fast
[slow]
datera_san_ip = 192.0.2.8
datera_san_login = admin
datera_san_password = swordfish
datera_san_port = 7717
"""
SINGLE = """\
[glance_store]
stores = file,datera
datera_san_ip = 192.0.2.9
datera_san_login = admin
datera_san_password = swordfish
"""


@pytest.fixture
def settings(tmp_path):
    def read(text, *words):
        path = tmp_path / "glance-api.conf"
        path.write_text(text, encoding="utf-8")
        parser = argparse.ArgumentParser()
        store.add_arguments(parser)
        return store.settings(parser.parse_args(["--config-file", str(path), *words]))

    return read


def test_the_only_store_of_ours_needs_no_name(settings):
    found = settings(SEVERAL.format(enabled="fast:datera"))
    assert found.name == "fast"
    assert (found.endpoint.address, found.endpoint.tenant_path) == ("192.0.2.7", "/root/fast")


def test_of_several_one_must_be_named(settings):
    text = SEVERAL.format(enabled="slow:datera, fast:datera")
    assert settings(text, "--backend", "slow").endpoint.url == "http://192.0.2.8:7717"
    with pytest.raises(exceptions.InvalidRequest, match=r"--backend.*: fast, slow"):
        settings(text)


@pytest.mark.parametrize("name", ["disk", "absent", "glance_store"])
def test_only_a_store_of_ours_can_be_named(settings, name):
    with pytest.raises(exceptions.InvalidRequest, match="enables: fast"):
        settings(SEVERAL.format(enabled="fast:datera"), "--backend", name)


def test_a_file_without_a_store_of_ours_is_said_to_be_one(settings):
    with pytest.raises(exceptions.InvalidRequest, match="none of type datera"):
        settings(SEVERAL.format(enabled="other:file"))


def test_the_single_store_of_old_has_no_name(settings):
    found = settings(SINGLE)
    assert (found.name, found.endpoint.address) == ("datera", "192.0.2.9")


def test_what_is_missing_is_said(settings):
    with pytest.raises(exceptions.InvalidRequest, match="datera_san_password"):
        settings(SINGLE.replace("datera_san_password", "x"))


def test_a_file_that_is_not_there_is_said(settings, tmp_path):
    with pytest.raises(exceptions.InvalidRequest, match=r"absent\.conf"):
        settings(SINGLE, "--config-file", str(tmp_path / "absent.conf"))
