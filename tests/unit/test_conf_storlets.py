# SPDX-License-Identifier: Apache-2.0
import pytest

from container_stack import exceptions
from container_stack.cmd import config
from container_stack.conf import storlets as conf
from container_stack.storlets import settings as plain
from container_stack.storlets.image import archive

ENGINE = "unix:///run/engine"


def settings(tmp_path, **lines):
    """Return the settings that a conf file with these lines makes."""
    file = tmp_path / "container-stack.conf"
    file.write_text(
        "[storlets]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    return conf.read([str(file)], ENGINE)


def test_nothing_need_be_set(tmp_path):
    made = settings(tmp_path)
    assert made == plain.Settings(docker_url=ENGINE)
    assert made.locks == "file:///var/lib/container-stack/storlets/locks"


def test_values_arrive(tmp_path):
    made = settings(
        tmp_path,
        gateway_conf="/srv/gateway.conf",
        inventory="/srv/nodes.yaml",
        ring="/srv/object.ring.gz",
        ring_url="tcp://{ip}:2376",
        docker_url="unix:///srv/sock",
        base_image="ops/base:7",
        base_object="base-7.tar",
        state_dir="/srv/state/",
        lock_url="etcd3+http://192.0.2.7:2379",
        reseller_prefix="KEY_",
        registry="registry.example.org:5000/storlets",
        sandbox_user="1234:567",
    )
    assert made == plain.Settings(
        gateway_conf="/srv/gateway.conf",
        inventory="/srv/nodes.yaml",
        ring="/srv/object.ring.gz",
        ring_url="tcp://{ip}:2376",
        docker_url="unix:///srv/sock",
        base_image="ops/base:7",
        base_object="base-7.tar",
        state_dir="/srv/state",
        lock_url="etcd3+http://192.0.2.7:2379",
        reseller_prefix="KEY_",
        registry="registry.example.org:5000/storlets",
        sandbox_user="1234:567",
    )
    assert made.locks == "etcd3+http://192.0.2.7:2379"


def test_units_are_bytes_and_seconds_inside(tmp_path):
    made = settings(
        tmp_path,
        segment_size_mb=7,
        max_archive_gb=3,
        max_unpacked_gb=5,
        max_layers=11,
        max_entries=13,
        max_config_kb=17,
        verify_timeout=19,
        node_timeout=23,
        swift_timeout=29,
        max_growth_mb=31,
    )
    assert made.segment_size == 7 * 1024**2
    assert made.bounds == archive.Bounds(
        archive=3 * 1024**3, unpacked=5 * 1024**3, layers=11, entries=13, config=17 * 1024
    )
    assert made.growth == 31 * 1024**2
    assert (made.verify_timeout, made.node_timeout, made.swift_timeout) == (19, 23, 29)


def test_a_rollout_is_as_wide_as_it_is_told(tmp_path):
    made = settings(
        tmp_path, canaries=2, wave_width=30, concurrency=40, max_down=5, keep_versions=6
    )
    assert made.rollout == plain.Rollout(canaries=2, wave=30, concurrency=40, max_down=5, keep=6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("segment_size_mb", 0),
        ("segment_size_mb", 5121),
        ("canaries", -1),
        ("wave_width", 0),
        ("concurrency", 0),
        ("max_down", -1),
        ("keep_versions", 0),
        ("max_layers", 126),
        ("verify_timeout", 0.5),
    ],
)
def test_value_out_of_range_is_refused_at_start(tmp_path, name, value):
    with pytest.raises(exceptions.InvalidRequest, match=name):
        settings(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ring_url", "ssh://node1"),
        ("ring_url", "http://{ip}:2375"),
        ("lock_url", "etcd"),
        ("base_object", "images/base.tar"),
    ],
)
def test_what_can_not_work_is_refused_at_start(tmp_path, name, value):
    with pytest.raises(exceptions.InvalidRequest, match=name):
        settings(tmp_path, **{name: value})


def test_every_option_says_what_it_is_for():
    assert [opt.name for opt in conf.OPTS if not opt.help or len(opt.help) < 40] == []


def test_sample_file_has_every_option():
    section = config.sample().partition("[storlets]")[2]
    assert [opt.name for opt in conf.OPTS if f"\n#{opt.name} = " not in section] == []


def test_a_file_that_is_not_there_is_an_error_of_ours(tmp_path):
    with pytest.raises(exceptions.InvalidRequest, match="missing"):
        conf.read([str(tmp_path / "missing.conf")])
