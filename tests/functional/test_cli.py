# SPDX-License-Identifier: Apache-2.0
"""The program as an operator runs it: output, exit codes, and checks of this very host."""

import getpass
import json
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from container_stack.cmd import rootwrap
from container_stack.host import abilities, images
from container_stack.rootwrap import commands, config
from container_stack.shares import image

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(point.name for point in metadata.entry_points(group="container_stack.cli"))


def run(*words, env=None):
    """Run the program; return its exit code, standard output and standard error."""
    argv = [sys.executable, "-m", "container_stack.cmd.main", *words]
    ended = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})}
    )
    return ended.returncode, ended.stdout, ended.stderr


def rows(*words):
    """Return the exit code and what a command lists."""
    code, out, err = run(*words, "-f", "json")
    assert out, err
    return code, json.loads(out)


# Every command ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does(name):
    code, out, _err = run(*name.split("_"), "--help")
    assert code == 0
    assert "usage: container-stack" in out


def test_the_version_is_the_packages():
    assert run("--version")[1] == f"container-stack {metadata.version('container-stack')}\n"


def test_without_a_command_the_commands_are_listed():
    code, out, _err = run()
    assert code == 0
    assert all(name.replace("_", " ") in out for name in COMMANDS)


def test_the_shell_can_complete_commands():
    code, out, _err = run("complete")
    assert code == 0
    assert "rootwrap" in out


def test_an_error_of_ours_is_one_line_and_a_traceback_only_if_asked_for():
    words = ("share", "server", "list", "--docker-url", "unix:///no/such/socket")
    code, out, err = run(*words)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "/no/such/socket" in err
    code, _out, err = run("--debug", *words)
    assert code == 1
    assert "Traceback" in err


@pytest.mark.parametrize("name", ["manila", "CIFS", "NFS", "loop", "lvm"])
def test_drivers_and_backends_are_listed_with_what_they_are(name):
    pytest.importorskip("manila")
    code, found = rows("driver", "list")
    mine = next(each for each in found if each["Name"] == name)
    assert (code, mine["State"]) == (0, "ok")
    assert mine["What"].endswith(".")


def test_a_plug_in_that_cannot_be_imported_is_listed_with_the_reason(tmp_path):
    package = tmp_path / "broken-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: broken\nVersion: 1\n", encoding="utf-8")
    (package / "entry_points.txt").write_text(
        "[container_stack.storage]\nbroken = no_such_module:Storage\n", encoding="utf-8"
    )
    code, out, _err = run("driver", "list", "-f", "json", env={"PYTHONPATH": str(tmp_path)})
    mine = next(each for each in json.loads(out) if each["Name"] == "broken")
    assert code == 0
    assert "no_such_module" in mine["State"]


def test_the_sample_is_the_one_that_is_shipped():
    code, out, _err = run("config", "sample")
    shipped = ROOT / "etc" / "container-stack" / "container-stack.conf.sample"
    assert (code, out) == (0, shipped.read_text(encoding="utf-8"))


def test_images_of_ours_are_listed(engine):
    code, found = rows("image", "list")
    assert code == 0
    if images.Images(engine).find(image.REFERENCE):
        assert any(image.REFERENCE in each["Tags"] for each in found)


# Rootwrap -----------------------------------------------------------------------------------


def test_filters_are_printed_for_a_state_directory():
    code, out, _err = run("rootwrap", "filters", "manila", "--state-dir", "/srv/cs")
    scripts = os.path.dirname(rootwrap.daemon())
    assert (code, out) == (0, commands.filters("manila", "/srv/cs", scripts))


def test_a_dry_run_writes_nothing(tmp_path):
    directory = tmp_path / "etc"
    code, found = rows("rootwrap", "install", "--directory", str(directory), "--dry-run")
    assert (code, {each["State"] for each in found}) == (0, {"new"})
    assert list(tmp_path.iterdir()) == []


def test_installing_twice_finds_everything_current(tmp_path):
    words = ("rootwrap", "install", "--directory", str(tmp_path), "--state-dir", "/srv/cs")
    assert {each["State"] for each in rows(*words)[1]} == {"new"}
    assert {each["State"] for each in rows(*words)[1]} == {"current"}
    filters = tmp_path / "rootwrap.d" / "manila.filters"
    scripts = os.path.dirname(rootwrap.daemon())
    expected = commands.filters("manila", "/srv/cs", scripts)
    assert filters.read_text(encoding="utf-8") == expected
    filters.write_text("edited", encoding="utf-8")
    assert "changed" in {each["State"] for each in rows(*words)[1]}
    assert {each["State"] for each in rows(*words)[1]} == {"current"}


def test_a_user_gets_a_line_for_sudo_that_visudo_accepts(tmp_path):
    user = getpass.getuser()
    words = ("--directory", str(tmp_path / "etc"), "--sudoers-directory", str(tmp_path))
    mine = ("--user", user, "--driver", "manila")
    code, _out, err = run("rootwrap", "install", *words, *mine)
    line = (tmp_path / f"container-stack-{user}").read_text(encoding="utf-8")
    assert code == 0
    assert line.startswith(f"{user} ALL=(root) NOPASSWD: /")
    assert line.endswith(f"/container-stack-rootwrap-daemon {tmp_path}/etc/rootwrap.conf\n")
    assert f"container_stack_root_helper = sudo -n {line.partition('NOPASSWD: ')[2]}" in err


def test_other_services_call_their_root_helper_otherwise(tmp_path):
    words = ("--directory", str(tmp_path / "etc"), "--sudoers-directory", str(tmp_path))
    code, _out, err = run(
        "rootwrap", "install", *words, "--user", getpass.getuser(), "--driver", "nova"
    )
    assert code == 0
    assert "Set root_helper = sudo -n /" in err
    assert "container_stack_root_helper" not in err


def test_glance_gets_filters_for_its_own_rootwrap_and_a_line_for_one_program(tmp_path):
    user, place = getpass.getuser(), tmp_path / "glance" / "rootwrap.d"
    words = ("--directory", str(tmp_path / "etc"), "--sudoers-directory", str(tmp_path))
    more = ("--driver", "glance", "--user", user, "--glance-directory", str(place))
    code, _out, err = run("rootwrap", "install", *words, *more)
    scripts = os.path.dirname(rootwrap.daemon())
    assert code == 0
    expected = commands.filters("glance", scripts=scripts)
    assert (place / "images.filters").read_text(encoding="utf-8") == expected
    line = (tmp_path / f"container-stack-{user}").read_text(encoding="utf-8")
    command = f"{scripts}/container-stack-rootwrap {tmp_path}/etc/rootwrap.conf"
    assert line == f"{user} ALL=(root) NOPASSWD: {command} container-stack-brick\n"
    assert f"Set datera_glance_rootwrap_path = sudo -n {scripts}/container-stack-rootwrap" in err
    assert run("rootwrap", "filters", "glance") == (0, expected, "")


def test_a_user_who_does_not_exist_gets_nothing(tmp_path):
    words = ("--directory", str(tmp_path / "etc"), "--sudoers-directory", str(tmp_path))
    code, _out, err = run("rootwrap", "install", *words, "--user", "no-such-user")
    assert (code, len(err.splitlines())) == (1, 1)
    assert list(tmp_path.iterdir()) == []


# Host check ---------------------------------------------------------------------------------


class Host:
    """A state directory and a configuration that are as they should be, until a test differs."""

    def __init__(self, directory, engine):
        self.state_dir = directory / "state"
        self.etc = directory / "etc"
        daemon = [sys.executable, "-m", "container_stack.rootwrap.cmd", f"{self.etc}/rootwrap.conf"]
        self.helper = shlex.join(daemon if os.geteuid() == 0 else ["sudo", "-n", *daemon])
        self.image = image.REFERENCE
        if not images.Images(engine).find(self.image):
            image.build(images.Images(engine))

    def prepare(self):
        self.state_dir.mkdir(mode=0o750)
        scripts = os.path.dirname(rootwrap.daemon())
        config.install(self.etc, ["manila"], str(self.state_dir), scripts)

    def check(self, *more):
        """Return the exit code, and the findings by subject."""
        words = ("--state-dir", str(self.state_dir), "--root-helper", self.helper)
        code, found = rows("host", "check", "--driver", "shares", *words, *more)
        return code, {each["Subject"]: each for each in found}

    def failures(self, *more):
        """Return the subjects that failed and that aren't conclusions from others."""
        code, found = self.check(*more)
        failed = {s: f for s, f in found.items() if f["State"] == "failure" and "shares:" not in s}
        assert code == bool(failed)
        return failed


@pytest.fixture
def host(tmp_path, engine):
    return Host(tmp_path, engine)


def test_a_prepared_host_passes(host):
    host.prepare()
    code, found = host.check()
    assert code == 0
    assert found["shares: serve CIFS shares as configured"]["State"] == "ok"
    assert found["shares: serve NFS shares"]["State"] == "ok"
    assert found["root helper"]["State"] == "ok"
    assert all(each["Fix"] == "" for each in found.values() if each["State"] == "ok")
    _code, found = host.check("--share-protocols", "CIFS,NFS")
    assert found["shares: serve CIFS and NFS shares as configured"]["State"] == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="fixes are typed as root")
def test_the_fixes_of_a_bare_host_make_it_pass(host):
    bin_dir = os.path.dirname(sys.executable)
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    failed = host.failures()
    assert f"state directory {host.state_dir}" in failed
    for finding in failed.values():
        assert finding["Fix"], finding
        subprocess.run(shlex.split(finding["Fix"]), check=True, env=env, capture_output=True)
    assert host.failures() == {}


def test_filters_of_another_version_are_a_failure(host):
    host.prepare()
    file = host.etc / "rootwrap.d" / "manila.filters"
    file.write_text(file.read_text(encoding="utf-8") + "more: x\n", encoding="utf-8")
    assert set(host.failures()) == {f"filters {file}"}


def test_a_root_helper_that_does_not_start_is_a_failure(host):
    host.prepare()
    host.helper = f"/bin/false {host.etc}/rootwrap.conf"
    assert set(host.failures()) == {"root helper"}


def test_an_engine_that_is_down_is_a_failure_with_a_cure(host):
    host.prepare()
    failed = host.failures("--docker-url", "unix:///no/such/socket")
    assert set(failed) == {
        "engine at unix:///no/such/socket",
        f"image {host.image}",
    }
    assert "docker" in failed["engine at unix:///no/such/socket"]["Fix"]


def test_a_missing_image_is_a_failure_with_the_command_that_makes_it(host):
    host.prepare()
    failed = host.failures("--image", "cstest-none:7")
    assert failed["image cstest-none:7"]["Fix"] == (
        "container-stack image build samba --tag cstest-none:7"
    )


def test_a_state_directory_that_others_may_write_is_a_failure(host):
    host.prepare()
    host.state_dir.chmod(0o777)
    failed = host.failures()
    assert failed[f"state directory {host.state_dir}"]["Fix"] == f"chmod go-w {host.state_dir}"


def test_what_only_another_choice_needs_is_a_warning(host):
    host.prepare()
    if abilities.kernel(abilities.FEATURES["device-mapper"]).level == "ok":
        pytest.skip("this host has device-mapper")
    assert host.check()[1]["kernel: device-mapper"]["State"] == "warning"
    failed = host.failures("--storage", "lvm")
    assert failed["kernel: device-mapper"]["Fix"] == "modprobe dm_mod"


def test_a_storage_backend_that_nobody_registered_is_a_failure(host):
    host.prepare()
    failed = host.failures("--storage", "nonesuch")
    assert "nonesuch" in failed["pool of nonesuch storage"]["Detail"]
