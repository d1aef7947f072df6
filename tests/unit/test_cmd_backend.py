# SPDX-License-Identifier: Apache-2.0
"""Which back end a command is about: a section of a file, single values, or both."""

import argparse

import pytest

from container_stack import exceptions
from container_stack.cmd import backend

CONF = """\
[DEFAULT]
enabled_share_backends = {enabled}
[fast]
container_stack_state_dir = /srv/fast
container_stack_docker_url = tcp://192.0.2.7:2376
container_stack_memory_mb = 96
[slow]
container_stack_state_dir = /srv/slow/
"""


@pytest.fixture
def conf(tmp_path):
    def write(enabled="fast"):
        path = tmp_path / "manila.conf"
        path.write_text(CONF.format(enabled=enabled), encoding="utf-8")
        return str(path)

    return write


def settings(*words):
    parser = argparse.ArgumentParser()
    backend.add_arguments(parser)
    return backend.settings(parser.parse_args(words))


def test_without_a_file_everything_is_the_default(monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = settings()
    assert found.owner == "container-stack"
    assert found.state_dir == "/var/lib/container-stack"
    assert found.docker_url == "unix:///var/run/docker.sock"


def test_docker_host_counts_without_a_file_and_not_with_one(monkeypatch, conf):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert settings().docker_url == "unix:///run/other.sock"
    assert settings("--config-file", conf()).docker_url == "tcp://192.0.2.7:2376"


def test_the_only_enabled_section_is_taken_and_owns_what_manila_owns(conf):
    found = settings("--config-file", conf())
    assert found.owner == "manila-fast"
    assert found.memory == 96 * 1024**2


def test_a_section_can_be_named_when_several_are_enabled(conf):
    path = conf("fast,slow")
    assert settings("--config-file", path, "--section", "slow").state_dir == "/srv/slow"
    with pytest.raises(exceptions.InvalidRequest, match=r"--section.*fast, slow"):
        settings("--config-file", path)


def test_what_is_given_on_the_command_line_counts_more_than_the_file(conf):
    found = settings("--config-file", conf(), "--state-dir", "/srv/new", "--owner", "me")
    assert (found.state_dir, found.owner) == ("/srv/new", "me")
    assert found.docker_url == "tcp://192.0.2.7:2376"


@pytest.mark.parametrize("words", [("--config-file", "/no/such/file"), ("--filesystem", "vfat")])
def test_what_cannot_be_used_is_an_invalid_request(words):
    with pytest.raises(exceptions.InvalidRequest):
        settings(*words)
