# SPDX-License-Identifier: Apache-2.0
import pytest
from oslo_config import cfg

from container_stack.conf import manila as conf
from container_stack.host import containers
from container_stack.rootwrap import commands
from container_stack.shares import image


def settings(**lines):
    """Return the settings that a conf file with these lines makes."""
    opts = cfg.ConfigOpts()
    opts([], default_config_files=[])
    opts.register_opts(conf.OPTS, group="container")
    for name, value in lines.items():
        opts.set_override(name, value, group="container")
    return conf.settings(lambda name: getattr(opts.container, name), "owner")


def test_nothing_need_be_set():
    made = settings()
    assert (made.state_dir, made.storage, made.filesystem) == (commands.STATE_DIR, "loop", "xfs")
    assert (made.image, made.docker_url) == (image.REFERENCE, containers.DEFAULT_URL)
    assert made.volume_group is made.pool_size is made.tls is made.linux_bridge is None


def test_servers_speak_cifs_alone_unless_told_otherwise():
    made = settings()
    assert (made.protocols, made.nfs_minor_versions, made.nfs_squash) == (("CIFS",), (1, 2), "none")
    made = settings(
        container_stack_share_protocols=["CIFS", "NFS"],
        container_stack_nfs_minor_versions=[0, 2],
        container_stack_nfs_squash="root",
    )
    assert made.protocols == ("CIFS", "NFS")
    assert (made.nfs_minor_versions, made.nfs_squash) == ((0, 2), "root")


def test_volume_group_counts_for_lvm_only():
    assert settings(container_stack_storage="lvm").volume_group == "manila_docker_volumes"
    assert settings(container_volume_group="vg1").volume_group is None


def test_sizes_become_bytes():
    made = settings(container_stack_pool_size_gb=7, container_stack_memory_mb=100)
    assert (made.pool_size, made.memory) == (7 * 1024**3, 100 * 1024**2)


def test_tls_files_go_together():
    made = settings(
        container_stack_docker_ca_cert="/ca",
        container_stack_docker_client_cert="/cert",
        container_stack_docker_client_key="/key",
    )
    assert made.tls == containers.TLS("/ca", "/cert", "/key")


def test_share_folder_of_the_old_driver_is_understood(tmp_path):
    file = tmp_path / "manila.conf"
    file.write_text("[container]\ncontainer_volume_mount_path = /srv/shares/\n")
    opts = cfg.ConfigOpts()
    opts(["--config-file", str(file)])
    opts.register_opts(conf.OPTS, group="container")
    made = conf.settings(lambda name: getattr(opts.container, name), "owner")
    assert made.state_dir == "/srv/shares"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container_stack_filesystem", "fat"),
        ("container_stack_pool_size_gb", 0),
        ("container_stack_memory_mb", 1),
    ],
)
def test_value_out_of_range_is_refused_at_start(name, value):
    with pytest.raises(ValueError, match=r"Valid values|greater than"):
        settings(**{name: value})


def test_every_option_says_what_it_is_for():
    assert [opt.name for opt in conf.OPTS if not opt.help or len(opt.help) < 40] == []


def test_addresses_of_the_host_are_a_list_in_order():
    made = settings(container_stack_site_addresses=["192.0.2.5", "2001:db8::5"])
    assert made.site_addresses == ("192.0.2.5", "2001:db8::5")
    assert settings().site_addresses == ()
