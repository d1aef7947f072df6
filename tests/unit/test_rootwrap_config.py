# SPDX-License-Identifier: Apache-2.0
"""The files that an operator installs for privileged commands."""

import configparser
import stat
from pathlib import Path

import pytest
from oslo_rootwrap import wrapper

from container_stack import exceptions
from container_stack.rootwrap import commands, config

ETC = Path(__file__).parents[2] / "etc" / "container-stack"


@pytest.mark.parametrize("driver", commands.DRIVERS)
def test_the_shipped_filters_are_the_generated_ones(driver):
    shipped = (ETC / "rootwrap.d" / f"{driver}.filters").read_text(encoding="utf-8")
    assert shipped == commands.filters(driver), "run: python tools/generate.py"


def test_the_shipped_configuration_is_the_generated_one():
    texts = config.texts("/etc/container-stack", commands.DRIVERS)
    shipped = (ETC / "rootwrap.conf").read_text(encoding="utf-8")
    assert shipped == texts["rootwrap.conf"]
    assert {path.name for path in (ETC / "rootwrap.d").iterdir()} == {
        f"{driver}.filters" for driver in commands.DRIVERS
    }


def test_the_shipped_sudoers_sample_admits_the_daemon_with_our_configuration_alone():
    lines = (ETC / "sudoers.sample").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert len(rules) == 1
    command = rules[0].partition("NOPASSWD: ")[2].split()
    assert command[0].startswith("/")
    assert command[0].endswith("/container-stack-rootwrap-daemon")
    assert command[1:] == ["/etc/container-stack/rootwrap.conf"]


def test_the_shipped_filters_for_glances_own_rootwrap_admit_one_program_without_arguments():
    shipped = ETC.parent / "glance" / "rootwrap.d" / "images.filters"
    assert shipped.read_text(encoding="utf-8") == commands.filters("glance")
    filters = wrapper.load_filters([str(shipped.parent)])
    mine = [each for each in filters if each.name != "privsep-helper"]
    assert [each.exec_path for each in mine] == ["/usr/local/bin/container-stack-brick"]
    assert mine[0].match(["container-stack-brick"])
    for more in ("x", "", "--help", "/tmp/socket"):
        assert not mine[0].match(["container-stack-brick", more])


def test_a_console_script_is_named_with_its_directory():
    text = commands.filters("glance", scripts="/opt/venv/bin")
    assert "RegExpFilter, /opt/venv/bin/container-stack-brick, root, " in text


def test_programs_are_looked_up_in_the_systems_directories_alone():
    parser = configparser.RawConfigParser()
    parser.read(ETC / "rootwrap.conf", encoding="utf-8")
    directories = parser["DEFAULT"]["exec_dirs"].split(",")
    assert directories == ["/sbin", "/usr/sbin", "/bin", "/usr/bin"]


def test_installed_files_can_be_read_by_all_and_written_by_their_owner(tmp_path):
    written = config.install(tmp_path / "etc", ["manila"], "/srv/shares")
    assert [path.relative_to(tmp_path / "etc").as_posix() for path in written] == [
        "rootwrap.conf",
        "rootwrap.d/manila.filters",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o644}
    assert "/srv/shares/volumes/" in written[1].read_text(encoding="utf-8")
    assert f"filters_path = {tmp_path}/etc/rootwrap.d" in written[0].read_text(encoding="utf-8")


def test_an_unknown_driver_is_refused_by_name_and_nothing_is_written(tmp_path):
    with pytest.raises(exceptions.InvalidRequest, match=r"'cinder'.*manila"):
        config.install(tmp_path / "etc", ["cinder"])
    assert not (tmp_path / "etc").exists()


def test_the_sudoers_line_is_a_single_rule_for_one_user():
    line = config.sudoers("manila", "/usr/bin/daemon", "/etc/cs")
    assert line == "manila ALL=(root) NOPASSWD: /usr/bin/daemon /etc/cs/rootwrap.conf\n"
    line = config.brick_sudoers("glance", "/usr/bin/rootwrap", "/etc/cs")
    assert line == (
        "glance ALL=(root) NOPASSWD: /usr/bin/rootwrap /etc/cs/rootwrap.conf"
        " container-stack-brick\n"
    )


def test_a_daemon_that_starts_meanwhile_reads_the_old_file_or_the_new(tmp_path):
    file = tmp_path / "rootwrap.d" / "manila.filters"
    config.write({file: "[Filters]\nold: all of it\n"})
    with file.open(encoding="utf-8") as being_read:
        config.write({file: "[Filters]\nnew: all of it\n"})
        assert being_read.read() == "[Filters]\nold: all of it\n"
    assert file.read_text(encoding="utf-8") == "[Filters]\nnew: all of it\n"
    assert list(file.parent.iterdir()) == [file]
