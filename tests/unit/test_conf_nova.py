# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pathlib
from importlib import metadata

import pytest
from oslo_config import cfg

from container_stack import exceptions
from container_stack.conf import nova as conf
from container_stack.host import containers
from container_stack.rootwrap import commands
from container_stack.servers import spec
from container_stack.servers.wishes import policy, user_data


def options(tmp_path: pathlib.Path, text: str = "") -> cfg.ConfigOpts:
    """Return what a nova.conf with these lines in its section says."""
    file = tmp_path / "nova.conf"
    file.write_text(f"[docker]\n{text}")
    opts = cfg.ConfigOpts()
    opts(["--config-file", str(file)])
    conf.register(opts)
    conf.register(opts)
    return opts


def test_nothing_need_be_set(tmp_path: pathlib.Path) -> None:
    made = conf.settings(options(tmp_path), "nova-host1")
    assert (made.owner, made.state_dir) == ("nova-host1", commands.STATE_DIR)
    assert (made.docker_url, made.tls) == (containers.DEFAULT_URL, None)
    assert made.defaults == spec.Defaults()
    assert made.shared_directory is made.snapshots_directory is None


#: Source: nova-docker's driver.py, as it was last; and the section's help texts.
OF_NOVA_DOCKER = {
    "root_directory": "/var/lib/docker",
    "host_url": "unix:///var/run/docker.sock",
    "api_insecure": False,
    "ca_file": None,
    "cert_file": None,
    "key_file": None,
    "vif_driver": "novadocker.virt.docker.vifs.DockerGenericVIFDriver",
    "inject_key": False,
    "shared_directory": None,
    "privileged": False,
}


def test_options_of_nova_docker_have_its_defaults(tmp_path: pathlib.Path) -> None:
    docker = options(tmp_path).docker
    assert {name: getattr(docker, name) for name in OF_NOVA_DOCKER} == OF_NOVA_DOCKER
    # Its snapshots needed a directory; ours stream.
    assert docker.snapshots_directory is None


def test_lines_of_the_first_readme_are_understood(tmp_path: pathlib.Path) -> None:
    text = (
        "vif_driver=novadocker.virt.docker.vifs.DockerGenericVIFDriver\n"
        "snapshots_directory=/var/tmp/my-snapshot-tempdir\n"
    )
    made = conf.settings(options(tmp_path, text), "nova-host1")
    assert made.snapshots_directory == "/var/tmp/my-snapshot-tempdir"


def test_what_is_set_arrives(tmp_path: pathlib.Path) -> None:
    profile = tmp_path / "seccomp.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
    text = f"""
host_url = tcp://192.0.2.1:2376
ca_file = /ca
cert_file = /cert
key_file = /key
engine_timeout = 70.5
state_dir = /srv/state/
root_helper = helper
runtime = runsc
pids_limit = 17
log_size_mb = 0
capabilities = CHOWN, cap_net_raw
no_new_privileges = False
privileged = True
seccomp_profile = {profile}
require_user_namespaces = True
disk_quota = required
accept_forwarding = True
bridge_taps = False
filter_taps = False
max_image_size_gb = 3
shared_directory = /images
"""
    made = conf.settings(options(tmp_path, text), "nova-host1")
    assert made.tls == containers.TLS("/ca", "/cert", "/key")
    assert (made.engine_timeout, made.state_dir, made.root_helper) == (70.5, "/srv/state", "helper")
    assert (made.disk_quota, made.accept_forwarding, made.user_namespaces) == (
        "required",
        True,
        True,
    )
    assert (made.bridge_taps, made.filter_taps) == (False, False)
    assert (made.image_size, made.shared_directory) == (3 * 1024**3, "/images")
    assert made.defaults == spec.Defaults(
        pids=17,
        capabilities=("CHOWN", "NET_RAW"),
        no_new_privileges=False,
        privileged=True,
        runtime="runsc",
        log_size=None,
        security=('seccomp={"defaultAction":"SCMP_ACT_ERRNO"}',),
    )


@pytest.mark.parametrize(
    ("text", "tls"),
    [
        ("host_url = tcp://127.0.0.1:2375", None),
        ("host_url = tcp://[::1]:2375", None),
        ("host_url = tcp://engine:2376\nca_file = /ca", containers.TLS("/ca")),
        ("host_url = tcp://engine:2376\ncert_file = /c", containers.TLS(None, "/c")),
        ("host_url = tcp://engine:2376\napi_insecure = True", containers.TLS(verify=False)),
        (
            "host_url = tcp://engine:2376\nca_file = /ca\napi_insecure = False",
            containers.TLS("/ca"),
        ),
    ],
)
def test_who_the_engine_is_is_checked_unless_told_otherwise(
    tmp_path: pathlib.Path, text: str, tls: containers.TLS | None
) -> None:
    assert conf.settings(options(tmp_path, text), "o").tls == tls


RULES = """
allowed_host_paths = /tmp/test112233, /srv/data:ro
allowed_devices = /dev/net/tun,/dev/urandom:r
allowed_capabilities = cap_net_admin
allow_privileged = True
allowed_host_namespaces = ipc,pid
allowed_links = redis3:192.0.2.7,six:2001:db8::7
allowed_volumes_from = parent,other:ro
allowed_host_ports = 8080, 11000-11999
allowed_security_options = label:disable
allow_restart_policies = True
allow_anonymous_volumes = False
ignored_user_data = Links, Foo
"""


def test_the_policy_is_as_the_options_say(tmp_path: pathlib.Path) -> None:
    made = conf.rules(options(tmp_path, RULES))
    assert made == policy.Rules(
        ignored_user_data=frozenset({"Links", "Foo"}),
        allowed_host_paths={"/tmp/test112233": False, "/srv/data": True},
        allowed_devices={"/dev/net/tun": False, "/dev/urandom": True},
        allowed_capabilities=(*spec.CAPABILITIES, "NET_ADMIN"),
        allow_privileged=True,
        allowed_host_namespaces=frozenset({"ipc", "pid"}),
        allowed_links={"redis3": "192.0.2.7", "six": "2001:db8::7"},
        allowed_volumes_from={"parent": False, "other": True},
        allowed_host_ports=((8080, 8080), (11000, 11999)),
        allowed_security_options=frozenset({"label:disable"}),
        allow_restart_policies=True,
        allow_anonymous_volumes=False,
    )


def test_every_rule_has_an_option_of_its_name() -> None:
    names = {opt.name for opt in conf.OPTS}
    assert {field.name for field in dataclasses.fields(policy.Rules)} <= names


def test_without_options_a_tenant_gets_nothing_of_the_host(tmp_path: pathlib.Path) -> None:
    empty = policy.Rules(
        ignored_user_data=frozenset(),
        allowed_capabilities=spec.CAPABILITIES,
        allowed_host_namespaces=frozenset(),
        allowed_security_options=frozenset(),
    )
    assert conf.rules(options(tmp_path)) == empty


def test_a_tenants_host_path_needs_the_operators_word(tmp_path: pathlib.Path) -> None:
    parsed = user_data.parse(b"volumes :\n  /tmp/test112233 : /tmp/test112233\n")
    with pytest.raises(policy.Refused, match=r"\[docker\] allowed_host_paths"):
        conf.policy(options(tmp_path)).admit(parsed)
    assert conf.policy(options(tmp_path, RULES)).admit(parsed).volumes


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("key_file = /key", "key_file"),
        ("host_url = tcp://192.0.2.1:2375", "host_url"),
        ("host_url = tcp://engine:2375", "host_url"),
        ("seccomp_profile = /nonexistent", "seccomp_profile"),
        ("seccomp_profile = /etc/hostname", "seccomp_profile"),
        ("capabilities = EVERYTHING", "capabilities"),
        ("allowed_host_paths = tmp", "allowed_host_paths"),
        ("allowed_host_paths = /tmp/../etc", "allowed_host_paths"),
        ("allowed_host_paths = /tmp:rw", "allowed_host_paths"),
        ("allowed_devices = /dev/kvm:ro", "allowed_devices"),
        ("allowed_capabilities = CHOWN,foo", "allowed_capabilities"),
        ("allowed_links = redis3:example", "allowed_links"),
        ("allowed_volumes_from = a b", "allowed_volumes_from"),
        ("allowed_host_ports = 0-10", "allowed_host_ports"),
        ("allowed_host_ports = 1-70000", "allowed_host_ports"),
        ("allowed_host_ports = 20-10", "allowed_host_ports"),
        ("allowed_host_ports = http", "allowed_host_ports"),
    ],
)
def test_what_cannot_be_fails_at_start_by_its_name(
    tmp_path: pathlib.Path, text: str, option: str
) -> None:
    opts = options(tmp_path, text)
    with pytest.raises(exceptions.InvalidRequest, match=rf"Option {option} of \[docker\]"):
        conf.settings(opts, "o"), conf.policy(opts)


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("vif_driver = other.Driver", "vif_driver"),
        ("disk_quota = maybe", "disk_quota"),
        ("pids_limit = 1", "pids_limit"),
        ("engine_timeout = 0", "engine_timeout"),
        ("allowed_host_namespaces = net", "allowed_host_namespaces"),
        ("allow_privileged = perhaps", "allow_privileged"),
    ],
)
def test_value_out_of_range_is_refused_at_start(
    tmp_path: pathlib.Path, text: str, option: str
) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match=option):
        getattr(options(tmp_path, text).docker, option)


def test_every_option_says_what_it_is_for() -> None:
    assert [opt.name for opt in conf.OPTS if not opt.help or len(opt.help) < 40] == []
    names = [opt.name for opt in conf.OPTS]
    assert len(names) == len(set(names))


def test_the_sample_holds_them() -> None:
    points = metadata.entry_points(group="oslo.config.opts")
    assert "container_stack.nova" in {point.name for point in points}
