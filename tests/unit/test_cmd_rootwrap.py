# SPDX-License-Identifier: Apache-2.0
"""The line for sudo: for a user who exists, with words that mean nothing else to sudo."""

import getpass
import shutil
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.cmd import rootwrap


@pytest.mark.parametrize("user", ["no-such-user", "ALL", "%root", "root,daemon", "root ALL", ""])
def test_only_a_user_who_exists_gets_a_line(user):
    with pytest.raises(exceptions.InvalidRequest, match="no user"):
        rootwrap.sudoers(user, "/usr/bin/daemon", Path("/etc/cs"))


@pytest.mark.parametrize("path", ["/usr/bin/d*", "/usr/bin/a b", "/a,/b", "/a:b", "/a\n/b", "d"])
def test_a_path_that_sudo_would_read_otherwise_is_refused(path):
    for program, directory in ((path, "/etc/cs"), ("/usr/bin/daemon", path)):
        with pytest.raises(exceptions.InvalidRequest, match="literally"):
            rootwrap.sudoers("root", program, Path(directory))


def test_a_service_gets_the_lines_of_its_own_drivers_alone():
    def rules(*drivers: str) -> list[str]:
        text = rootwrap.sudoers("root", "/usr/bin/daemon", Path("/etc/cs"), drivers)
        return [line.partition("NOPASSWD: ")[2] for line in text.splitlines()]

    brick = "/usr/bin/container-stack-rootwrap /etc/cs/rootwrap.conf container-stack-brick"
    daemon = "/usr/bin/daemon /etc/cs/rootwrap.conf"
    assert rules("glance") == [brick]
    assert rules("manila") == [daemon]
    assert rules("glance", "manila") == [brick, daemon]


@pytest.mark.skipif(not shutil.which("visudo", path="/usr/sbin:/sbin"), reason="needs visudo")
def test_what_visudo_refuses_is_not_put_in_place(tmp_path):
    place = tmp_path / "container-stack"
    place.write_text("old", encoding="utf-8")
    with pytest.raises(exceptions.CommandFailed, match="visudo"):
        rootwrap.install_sudoers(place, "this is no sudoers line\n")
    assert place.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [place]
    rootwrap.install_sudoers(place, f"{getpass.getuser()} ALL=(root) NOPASSWD: /bin/true x\n")
    assert place.stat().st_mode & 0o777 == 0o440
    assert list(tmp_path.iterdir()) == [place]
