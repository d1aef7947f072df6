# SPDX-License-Identifier: Apache-2.0
"""A service's own user, as an operator sets him up for Glance's own rootwrap or for ours."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from functional import service_account

from container_stack.rootwrap import commands, config

SCRIPTS = Path(sys.executable).parent


class Account(service_account.Account):
    """A user who may do with sudo what our docs tell, and nothing else.

    :ivar helpers: by name, command lines that run our program as root for him.
    """

    helpers: dict[str, str]

    def make(self) -> None:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", self.name],
            check=True,
        )
        directory = self.config.parent
        config.install(directory, ["glance"], scripts=str(SCRIPTS))
        glance = directory / "glance"
        (glance / "rootwrap.d").mkdir(parents=True)
        # As Debian has it.
        (glance / "rootwrap.conf").write_text(
            f"[DEFAULT]\nfilters_path={glance}/rootwrap.d\nexec_dirs={config.EXEC_DIRS}\n"
        )
        images = glance / "rootwrap.d" / config.IMAGES
        images.write_text(commands.filters("glance", scripts=str(SCRIPTS)))
        ours, theirs = SCRIPTS / "container-stack-rootwrap", SCRIPTS / "glance-rootwrap"
        self.helpers = {
            "ours": f"sudo -n {ours} {self.config}",
            "glance": f"sudo -n {theirs} {glance}/rootwrap.conf",
        }
        draft = directory / "sudoers"
        draft.write_text(
            config.brick_sudoers(self.name, str(ours), str(directory))
            + f"{self.name} ALL=(root) NOPASSWD: {theirs} {glance}/rootwrap.conf *\n"
        )
        draft.chmod(0o440)
        subprocess.run(["visudo", "-c", "-f", draft], check=True, capture_output=True)
        shutil.move(draft, self._rule)


def account() -> Iterator[Account]:
    """Yield a new user, and remove him."""
    name = f"cstest{uuid.uuid4().hex[:8]}"
    directory = Path("/var/tmp") / name
    directory.mkdir(mode=0o755)
    made = Account(name, directory)
    try:
        made.make()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)
