# SPDX-License-Identifier: Apache-2.0
"""The plugin for devstack, called as devstack calls it, on a machine that is a directory.

What devstack and the host give it are functions with behaviour, in devstack_machine.sh. It says
nothing of a real devstack.
"""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from container_stack.cmd import host, image, rootwrap
from container_stack.conf import manila
from container_stack.rootwrap import commands

PROJECT = Path(__file__).parents[2]
PLUGIN = PROJECT / "devstack"
SAMPLE = (PLUGIN / "local.conf.sample").read_text(encoding="utf-8")
MACHINE = Path(__file__).with_name("devstack_machine.sh")
STATE = "/var/lib/container-stack"
LABEL = "container_stack.owner=manila-london"
#: What the plugin calls of this package.
COMMANDS = {
    ("rootwrap", "install"): rootwrap.Install,
    ("image", "build", "samba"): image.BuildSamba,
    ("host", "check"): host.Check,
}
#: The rule of networks with IPv6, but for `ip6tables --wait --insert`.
GUARD = " ".join(commands.networks.GUARD_INSERT.argv(STATE)[3:])


class Machine:
    """A machine with a local.conf."""

    def __init__(self, directory: Path, local_conf: str) -> None:
        self.directory = directory
        (directory / "local.conf").write_text(local_conf, encoding="utf-8")

    def call(self, *modes: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", MACHINE, self.directory, PLUGIN, *modes],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def run(self, *modes: str, **environment: str) -> None:
        done = self.call(*modes, **environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr

    def refusal(self, *modes: str, **environment: str) -> str:
        done = self.call(*modes, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def table(self, name: str) -> list[str]:
        return (self.directory / name).read_text(encoding="utf-8").splitlines()

    def add(self, name: str, *lines: str) -> None:
        with (self.directory / name).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def config(self, name: str = "manila.conf") -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, default_section="none")
        parser.read(self.directory / name, encoding="utf-8")
        return parser

    def files(self) -> dict[str, str]:
        """Everything on the machine, with its content."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            found[str(path.relative_to(self.directory))] = text
        return found

    def serve(self) -> None:
        """Leave what a share server of ours leaves, and another's things beside it."""
        self.add("containers", f"c1 {LABEL}", "c2 container_stack.owner=nova")
        self.add("links", "csp0123456789ab c1", "cspba9876543210 c2")
        self.add("ports", "br-int", "csp0123456789ab", "cspba9876543210", "tap0123")
        self.add("networks", f"csn0123456789ab {LABEL}")
        self.add("rules", GUARD)
        self.add("mounts", "/", f"{STATE}/mounts", f"{STATE}/mounts/shares/s1", "/srv")
        self.add("loops", f"/dev/loop3 {STATE}/volumes/s1.img", "/dev/loop4 /srv/disk.img")
        for name in ("volumes/s1.img", "locks/storage/s1", "servers/s1.json", "users/u.json"):
            file = Path(f"{self.directory}/root{STATE}/{name}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path, SAMPLE)


def with_settings(tmp_path: Path, *lines: str) -> Machine:
    return Machine(tmp_path, "\n".join((SAMPLE, *lines, "")))


def test_the_sample_makes_a_back_end_of_ours_with_what_the_host_needs(machine):
    machine.run("stack", SERVICES="m-api,m-shr,tempest,neutron")
    config = machine.config()
    assert dict(config["DEFAULT"]) == {
        "enabled_share_backends": "london",
        "enabled_share_protocols": "CIFS",
    }
    assert dict(config["london"]) == {
        "share_driver": "container_stack.drivers.manila.ContainerShareDriver",
        "share_backend_name": "LONDON",
        "driver_handles_share_servers": "True",
        "container_stack_state_dir": STATE,
        "container_stack_root_helper": f"sudo -n {machine.directory}/bin/"
        "container-stack-rootwrap-daemon /etc/container-stack/rootwrap.conf",
        "container_stack_storage": "loop",
        "container_stack_filesystem": "xfs",
        "container_stack_pool_size_gb": "62",
        "container_stack_share_protocols": "CIFS",
        "network_api_class": "manila.network.neutron.neutron_network_plugin."
        "NeutronBindNetworkPlugin",
        "neutron_host_id": "tower",
        "neutron_vnic_type": "normal",
        "container_ovs_bridge_name": "br-int",
    }
    assert machine.table("packages") == ["sudo", "xfsprogs", "docker.io"]
    assert machine.table("pip") == [str(PROJECT)]
    assert machine.table("groups") == ["docker"]
    assert machine.table("images") == ["container-stack-samba:5 container_stack.image=samba"]
    assert machine.table("types") == ["london True snapshot_support=True share_backend_name=LONDON"]
    assert Path(f"{machine.directory}/root{STATE}").stat().st_mode & 0o777 == 0o750
    tempest = machine.config("tempest.conf")["share"]
    assert tempest["enable_protocols"] == "cifs"
    assert tempest["run_shrink_tests"] == "False"


def test_every_option_that_it_sets_of_ours_is_one_of_the_driver(machine, tmp_path):
    with_settings(tmp_path, "CONTAINER_STACK_STORAGE=lvm").run("stack")
    ours = {name for name in machine.config()["london"] if name.startswith("container_")}
    assert ours <= {option.name for option in manila.OPTS}


def test_the_packages_commands_take_what_they_are_given(tmp_path):
    with_settings(tmp_path, "MANILA_OPTGROUP_london_container_image_name=samba:mine").run("stack")
    seen = set()
    for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines():
        words = tuple(line.split("\t"))
        name = next(name for name in COMMANDS if words[: len(name)] == name)
        COMMANDS[name](None, None).get_parser("x").parse_args(words[len(name) :])
        seen.add(name)
    assert seen == set(COMMANDS)


def test_a_second_stack_changes_nothing(machine):
    machine.run("stack")
    before = machine.files()
    machine.run("stack")
    assert machine.files() == before


def test_what_is_missing_after_a_stack_is_made_again_by_the_next(machine):
    machine.run("stack")
    before = machine.files()
    (machine.directory / "images").write_text("")
    shutil.rmtree(f"{machine.directory}/root/etc/container-stack")
    machine.run("stack")
    assert machine.files() == before


def test_without_neutron_share_networks_have_manilas_own_addresses(machine):
    machine.run("stack")
    section = machine.config()["london"]
    assert section["network_api_class"].endswith(".StandaloneNetworkPlugin")
    assert section["standalone_network_plugin_gateway"] == "10.254.0.1"
    assert section["standalone_network_plugin_mask"] == "24"
    assert "container_ovs_bridge_name" not in section


def test_what_local_conf_says_of_the_back_end_counts_more(tmp_path):
    machine = with_settings(
        tmp_path,
        "MANILA_SHARE_BACKEND1_NAME=THAMES",
        "MANILA_OPTGROUP_london_container_stack_pool_size_gb=7",
        "MANILA_OPTGROUP_london_container_image_name=samba:mine",
        "MANILA_OPTGROUP_london_container_linux_bridge_name=br0",
        "CONTAINER_STACK_SHARE_PROTOCOLS=CIFS,NFS",
    )
    machine.run("stack", SERVICES="m-api,m-shr,neutron")
    config = machine.config()
    section = config["london"]
    assert section["share_backend_name"] == "THAMES"
    assert section["container_stack_pool_size_gb"] == "7"
    assert section["container_stack_share_protocols"] == "CIFS,NFS"
    assert section["container_linux_bridge_name"] == "br0"
    assert "container_ovs_bridge_name" not in section
    assert config["DEFAULT"]["enabled_share_protocols"] == "CIFS,NFS"
    assert machine.table("images") == ["samba:mine container_stack.image=samba"]


def test_manilas_own_example_gets_our_driver(tmp_path):
    machine = with_settings(
        tmp_path, "SHARE_DRIVER=manila.share.drivers.container.driver.ContainerShareDriver"
    )
    machine.run("stack")
    driver = machine.config()["london"]["share_driver"]
    assert driver == "container_stack.drivers.manila.ContainerShareDriver"


def test_two_lines_of_local_conf_are_enough(tmp_path):
    machine = Machine(tmp_path, "[[local|localrc]]\n")
    machine.run("stack")
    assert machine.config()["container"]["container_stack_pool_size_gb"] == "8"
    assert machine.table("types")[0].startswith("container True snapshot_support=True create_")


def test_beside_another_driver_only_our_back_end_is_touched(tmp_path):
    ours = "container_stack.drivers.manila.ContainerShareDriver"
    machine = Machine(
        tmp_path,
        "MANILA_ENABLED_BACKENDS=tape,disk\nSHARE_DRIVER=another.Driver\n"
        f"MANILA_OPTGROUP_disk_share_driver={ours}\n",
    )
    machine.run("stack")
    config = machine.config()
    assert set(config["tape"]) == {
        "share_driver",
        "share_backend_name",
        "driver_handles_share_servers",
    }
    assert config["disk"]["container_stack_state_dir"] == STATE
    assert [line.split()[0] for line in machine.table("types")] == ["disk"]


def test_one_server_on_the_hosts_address_needs_no_network(tmp_path):
    machine = with_settings(
        tmp_path,
        "MANILA_OPTGROUP_london_driver_handles_share_servers=False",
        "CONTAINER_STACK_SHARE_PROTOCOLS=CIFS,NFS",
    )
    machine.run("stack", SERVICES="m-api,m-shr,neutron")
    section = machine.config()["london"]
    assert section["container_stack_site_addresses"] == "192.0.2.5"
    assert "network_api_class" not in section
    assert "container_stack_share_protocols" not in section  # CIFS alone is served there
    assert machine.table("types")[0].startswith("london False ")


def test_a_volume_group_is_made_once_and_removed(tmp_path):
    machine = with_settings(tmp_path, "CONTAINER_STACK_STORAGE=lvm")
    machine.run("stack")
    file = machine.directory / "data" / "container-stack-backing-file"
    assert file.stat().st_size == 64000 * 1024**2
    assert machine.config()["london"]["container_volume_group"] == "manila_docker_volumes"
    assert "lvm2" in machine.table("packages")
    # After a reboot the file is attached to nothing, and the kernel doesn't know the group.
    (machine.directory / "loops").write_text("")
    machine.run("stack")
    assert machine.table("loops") == [f"/dev/loop7 {file}"]
    assert machine.table("vgs") == ["manila_docker_volumes"]
    machine.run("unstack")
    assert machine.table("vgs") == machine.table("loops") == []
    assert not file.exists()


def test_a_volume_group_of_somebody_else_is_left_alone(tmp_path):
    machine = with_settings(tmp_path, "CONTAINER_STACK_STORAGE=lvm")
    machine.add("vgs", "manila_docker_volumes")
    assert "name another in CONTAINER_STACK_VOLUME_GROUP" in machine.refusal("stack")
    machine.run("unstack")
    assert machine.table("vgs") == ["manila_docker_volumes"]


def test_unstack_removes_every_share_and_server_and_nothing_of_others(machine):
    machine.run("stack")
    stacked = machine.files()
    machine.serve()
    machine.run("unstack")
    assert machine.table("containers") == ["c2 container_stack.owner=nova"]
    assert machine.table("links") == ["cspba9876543210 c2"]
    assert machine.table("ports") == ["br-int", "cspba9876543210", "tap0123"]
    assert machine.table("networks") == machine.table("rules") == []
    assert machine.table("mounts") == ["/", "/srv"]
    assert machine.table("loops") == ["/dev/loop4 /srv/disk.img"]
    left = {"containers", "links", "ports", "mounts", "loops"}
    kept = {name: text for name, text in machine.files().items() if name not in left}
    assert kept == {name: text for name, text in stacked.items() if name not in left}


def test_the_rule_of_ipv6_stays_while_a_network_needs_it(machine):
    machine.run("stack")
    machine.serve()
    machine.add("networks", "csnba9876543210 container_stack.owner=nova")
    machine.run("unstack")
    assert machine.table("rules") == [GUARD]


def test_clean_leaves_packages_alone_and_nothing_else(machine):
    machine.run("nothing")
    (machine.directory / "data" / "another").touch()
    before = machine.files()
    machine.run("stack")
    machine.serve()
    for table in ("containers", "links", "ports", "mounts", "loops"):
        lines = [line for line in machine.table(table) if re.search(rf"{LABEL}|{STATE}|c1$", line)]
        (machine.directory / table).write_text("".join(f"{line}\n" for line in lines))
    machine.run("unstack", "clean")
    made_by_others = {"packages", "pip", "types", "tempest.conf", "calls"}
    after = machine.files()
    assert {name: text for name, text in after.items() if name not in made_by_others} == {
        name: text for name, text in before.items() if name not in made_by_others
    }
    machine.run("unstack", "clean")
    assert machine.files() == after


def test_clean_leaves_what_was_there_before(machine):
    machine.add("groups", "docker")
    filters = machine.directory / "root/etc/container-stack/rootwrap.d/nova.filters"
    filters.parent.mkdir(parents=True)
    filters.touch()
    machine.run("stack", "unstack", "clean")
    assert machine.table("groups") == ["docker"]
    assert [path.name for path in filters.parent.iterdir()] == ["nova.filters"]
    assert filters.parent.with_name("rootwrap.conf").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("CONTAINER_STACK_STORGE=lvm", "no setting CONTAINER_STACK_STORGE.* STORAGE"),
        ("CONTAINER_STACK_STORAGE=zfs", "CONTAINER_STACK_STORAGE=zfs: give one of loop lvm"),
        ("CONTAINER_STACK_FILESYSTEM=ntfs", "give one of xfs ext4 btrfs"),
        ("CONTAINER_STACK_SHARE_PROTOCOLS=NFS", "give one of CIFS CIFS,NFS"),
        ("CONTAINER_STACK_STATE_DIR=/srv", "CONTAINER_STACK_STATE_DIR=/srv: give an absolute"),
        ("CONTAINER_STACK_STATE_DIR=/srv/../etc", "give an absolute path"),
        ("CONTAINER_STACK_STATE_DIR='/srv/my shares'", "give an absolute path"),
        ("CONTAINER_STACK_CONF_DIR=etc/here", "CONTAINER_STACK_CONF_DIR=etc/here: give an"),
        ("SHARE_BACKING_FILE_SIZE=1000M", "SHARE_BACKING_FILE_SIZE=1000M: give at least 1G"),
        ("SHARE_BACKING_FILE_SIZE='64 GB'", "give at least 1G"),
        ("DISTRIBUTION=rpm", "knows Debian and Ubuntu only"),
        ("SHARE_DRIVER=another.Driver", "No back end of london has the share_driver"),
    ],
)
def test_what_cant_be_done_is_refused_with_the_cure(tmp_path, line, words):
    machine = with_settings(tmp_path, line)
    assert re.search(words, machine.refusal("stack"))
    assert machine.table("groups") == [] or "SHARE_DRIVER" in line


def test_a_directory_with_somebody_elses_files_is_never_taken_nor_emptied(machine):
    file = Path(f"{machine.directory}/root{STATE}/volumes/precious")
    file.parent.mkdir(parents=True)
    file.touch()
    assert "name another directory in CONTAINER_STACK_STATE_DIR" in machine.refusal("stack")
    machine.run("unstack", "clean")
    assert file.exists()


@pytest.mark.parametrize("where", ["no", "below"])
def test_manila_must_come_first(machine, where):
    assert "add 'enable_plugin manila" in machine.refusal("stack", MANILA=where)
    assert machine.table("packages") == []


def test_a_host_that_cant_serve_ends_the_stack(machine):
    said = machine.refusal("stack", BROKEN="engine")
    assert "lacks something that the back end london needs" in said
    assert machine.table("types") == []


def test_a_host_without_the_share_service_is_left_as_it_is(machine):
    machine.run("stack", SERVICES="n-cpu")
    assert machine.table("packages") == machine.table("pip") == machine.table("types") == []


def test_who_disables_the_service_gets_nothing(tmp_path):
    machine = with_settings(tmp_path, "enable_service() { :; }")
    machine.run("stack")
    assert machine.table("packages") == []
    assert "container_stack_state_dir" not in machine.config()["london"]
