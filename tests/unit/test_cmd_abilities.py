# SPDX-License-Identifier: Apache-2.0
"""Probes of the host: what they see on this one."""

import os

import pytest

from container_stack.cmd import checks
from container_stack.host import abilities
from container_stack.rootwrap import commands, config

#: Programs whose Debian package has the program's name.
SAME_NAME = {"ebtables", "iptables", "mount"}


def test_the_boot_id_stays_while_the_host_runs():
    assert abilities.boot_id() == abilities.boot_id()
    assert len(abilities.boot_id()) == 36


@pytest.mark.parametrize("driver", commands.DRIVERS)
def test_the_package_of_every_program_in_the_catalogue_is_known(driver):
    programs = {
        command.program
        for command in commands.DRIVERS[driver]
        if not (command.own or command.inside)
    }
    same = {name for name in programs if abilities.package(name) == name}
    assert same == SAME_NAME & programs


def test_nfs_wants_seccomp_profiles_and_no_user_namespace_of_the_engine_s():
    usual = ["name=apparmor", "name=seccomp,profile=default", "name=cgroupns"]
    assert {each.level for each in checks.handles(usual, needed=True)} == {"ok"}
    remapped = {each.subject: each for each in checks.handles([*usual, "name=userns"], needed=True)}
    assert remapped[checks.SECCOMP].level == "ok"
    assert remapped[checks.HANDLES].level == "failure"
    assert "userns" in remapped[checks.HANDLES].detail
    bare = {each.subject: each.level for each in checks.handles(["name=rootless"], needed=False)}
    assert bare == {checks.SECCOMP: "warning", checks.HANDLES: "warning"}


def test_a_lack_is_a_failure_only_where_the_thing_is_needed():
    assert abilities.judge("x", True, "").level == "ok"
    assert abilities.judge("x", False, "").level == "failure"
    assert abilities.judge("x", False, "", needed=False).level == "warning"


def test_a_fix_is_named_only_where_something_is_to_be_fixed():
    assert abilities.judge("x", True, "", fix="cure").fix == ""
    assert abilities.judge("x", False, "", fix="cure").fix == "cure"


def test_a_missing_program_is_named_with_its_package():
    found = abilities.programs(["ls", "mkfs.nothing"], config.EXEC_DIRS, {"mkfs.nothing"})
    by_subject = {each.subject: each for each in found}
    assert by_subject["programs of ls"].level == "ok"
    missing = by_subject["programs of mkfs.nothing"]
    assert (missing.level, missing.detail) == ("failure", "missing: mkfs.nothing")


def test_programs_outside_the_root_helpers_directories_do_not_count(tmp_path):
    program = tmp_path / "losetup"
    program.write_text("#!/bin/true\n", encoding="utf-8")
    program.chmod(0o755)
    found = abilities.programs(["losetup"], f"/nowhere,{tmp_path}", {"mount"})
    assert found[0].level == "ok"
    assert abilities.programs(["losetup"], "/nowhere", {"mount"})[0].level == "failure"


def test_a_kernel_feature_that_nothing_knows_is_missing():
    feature = abilities.Feature("unobtainium", "unobtainium", "magic", symbol="unobtainium_init")
    found = abilities.kernel(feature)
    assert (found.level, found.fix) == ("failure", "modprobe unobtainium")
    assert abilities.kernel(abilities.FEATURES["ext4"], needed=False).level in ("ok", "warning")


def test_a_state_directory_that_others_may_write_is_refused(tmp_path):
    assert abilities.directory(str(tmp_path)).level == "ok"
    tmp_path.chmod(0o777)
    found = abilities.directory(str(tmp_path))
    assert (found.level, found.fix) == ("failure", f"chmod go-w {tmp_path}")


def test_a_state_directory_that_is_missing_or_a_file_is_refused(tmp_path):
    assert abilities.directory(str(tmp_path / "none")).level == "failure"
    (tmp_path / "file").touch()
    assert abilities.directory(str(tmp_path / "file")).detail == "is no directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_state_directory_of_another_user_is_refused(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    found = abilities.directory(str(tmp_path))
    assert found.level == "failure"
    assert "65534" in found.detail


def test_space_and_reflinks_are_looked_at_where_the_directory_will_be(tmp_path):
    place = str(tmp_path / "not" / "yet")
    assert "GiB" in abilities.space(place).detail
    assert abilities.reflink(place) == abilities.reflink(place)
    assert os.listdir(tmp_path) == []
