# SPDX-License-Identifier: Apache-2.0
"""A service's own user, as an operator sets him up for Glance's own rootwrap or for ours."""

import sys
from pathlib import Path

from functional import service_account

from container_stack.rootwrap import commands, config

SCRIPTS = Path(sys.executable).parent


class Account(service_account.Account):
    """A user who may do with sudo what our docs tell, and nothing else.

    :ivar helpers: by name, command lines that run our program as root for him.
    """

    helpers: dict[str, str]

    def prepare(self) -> str:
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
        return (
            config.brick_sudoers(self.name, str(ours), str(directory))
            + f"{self.name} ALL=(root) NOPASSWD: {theirs} {glance}/rootwrap.conf *\n"
        )
