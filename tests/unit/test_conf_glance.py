# SPDX-License-Identifier: Apache-2.0
import pytest
from oslo_config import cfg

from container_stack import exceptions
from container_stack.cmd import config
from container_stack.conf import glance as conf

REQUIRED = {
    "datera_san_ip": "192.0.2.7",
    "datera_san_login": "glance",
    "datera_san_password": "oyster",
}
#: The options that Datera's driver was documented with, and its defaults.
DOCUMENTED = {
    "datera_san_ip": None,
    "datera_san_login": None,
    "datera_san_password": None,
    "datera_san_port": 7718,
    "datera_tenant_id": "/root",
    "datera_replica_count": 3,
    "datera_placement_mode": "hybrid",
    "datera_chunk_size": 1073741824,
}
#: Those that it had besides.
UNDOCUMENTED = {
    "datera_default_image_size": 1,
    "datera_retry_attempts": 30,
    "datera_retry_interval": 2,
    "datera_operation_max_timeout": 600,
    "datera_glance_rootwrap_path": "sudo glance-rootwrap",
    "datera_glance_rootwrap_config": "/etc/glance/rootwrap.conf",
}


def settings(tmp_path, **lines):
    """Return the settings that a conf file with these lines makes."""
    file = tmp_path / "glance-api.conf"
    given = "".join(f"{name} = {value}\n" for name, value in (REQUIRED | lines).items())
    file.write_text(f"[fast]\n{given}")
    opts = cfg.ConfigOpts()
    opts(["--config-file", str(file)])
    opts.register_opts(conf.OPTS, group="fast")
    return conf.settings(lambda name: getattr(opts.fast, name), "fast")


@pytest.mark.parametrize(("name", "default"), (DOCUMENTED | UNDOCUMENTED).items())
def test_options_of_the_old_driver_have_its_defaults(name, default):
    [found] = [opt.default for opt in conf.OPTS if opt.name == name]
    assert found == default


def test_little_need_be_set(tmp_path):
    made = settings(tmp_path)
    assert made.endpoint.url == "https://192.0.2.7:7718"
    assert (made.endpoint.tenant_path, made.endpoint.ca_file, made.endpoint.verify) == (
        "/root",
        "",
        True,
    )
    assert (made.name, made.attacher, made.state_dir) == ("fast", None, "/var/lib/glance/datera")
    assert (made.chunk_size, made.first_size_gib) == (1024**3, 1)
    assert made.attach_options.root_helper == "sudo glance-rootwrap /etc/glance/rootwrap.conf"


def test_values_arrive(tmp_path):
    made = settings(
        tmp_path,
        datera_san_port=7717,
        datera_tenant_id="/root/images",
        datera_replica_count="2",
        datera_placement_mode="/placement_policies/gold",
        datera_chunk_size=65536,
        datera_default_image_size=7,
        datera_retry_attempts=5,
        datera_retry_interval=0.5,
        datera_operation_max_timeout=77,
        datera_attach="brick",
        datera_initiator="iqn.2026-01.org.example:host1",
        datera_multipath="yes",
        datera_glance_rootwrap_path="doas wrap",
        datera_glance_rootwrap_config="/etc/wrap.conf",
    )
    endpoint, options = made.endpoint, made.attach_options
    assert (endpoint.url, endpoint.tenant_path) == ("http://192.0.2.7:7717", "/root/images")
    assert (endpoint.retry_attempts, endpoint.retry_interval) == (5, 0.5)
    assert (endpoint.operation_timeout, made.first_size_gib, made.chunk_size) == (77, 7, 65536)
    assert (made.replica_count, made.placement_mode) == (2, "/placement_policies/gold")
    assert (options.initiator, options.multipath) == ("iqn.2026-01.org.example:host1", True)
    assert options.root_helper == "doas wrap /etc/wrap.conf"
    assert options.rootwrap_config == "/etc/wrap.conf"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("datera_replica_count", 6),
        ("datera_replica_count", 0),
        ("datera_placement_mode", "hibrid"),
        ("datera_chunk_size", 4095),
        ("datera_default_image_size", 0),
        ("datera_san_port", 65536),
        ("datera_retry_attempts", -1),
        ("datera_verify", "maybe"),
    ],
)
def test_value_out_of_range_is_refused_at_start(tmp_path, name, value):
    with pytest.raises(ValueError, match=name):
        settings(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"datera_san_password": "", "datera_san_ip": ""}, "datera_san_ip, datera_san_password"),
        ({"datera_ca_file": "/ca.pem", "datera_verify": "no"}, "datera_ca_file"),
        ({"datera_multipath": "yes", "datera_attach": "libiscsi"}, "datera_multipath"),
        ({"datera_attach": "file"}, "datera_simulator_dir"),
    ],
)
def test_contradictions_are_refused_at_start(tmp_path, lines, words):
    with pytest.raises(exceptions.InvalidRequest, match=words):
        settings(tmp_path, **lines)


def test_password_is_not_shown(tmp_path):
    assert "oyster" not in repr(settings(tmp_path))
    assert [opt.name for opt in conf.OPTS if opt.secret] == ["datera_san_password"]


def test_every_option_says_what_it_is_for():
    assert [opt.name for opt in conf.OPTS if not opt.help or len(opt.help) < 40] == []


def test_sample_file_has_every_option():
    text = config.sample()
    assert "[glance_store]" in text
    assert [opt.name for opt in conf.OPTS if f"\n#{opt.name} = " not in text] == []
