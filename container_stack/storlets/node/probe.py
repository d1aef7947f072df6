# SPDX-License-Identifier: Apache-2.0
"""A storlet that changes nothing: what comes back different, the sandbox did.

It is given to sandboxes as source, and runs under whatever Python an image has. In an account's
directory it has another name for each switch: the gateway, for a storlet of the account's own, and
the sandboxes put files there, too, and whenever they like.
"""

import re
import secrets

MODULE = "container_stack_probe"
#: As X-Object-Meta-Storlet-Main has it.
MAIN = f"{MODULE}.Probe"
FILE = f"{MODULE}.py"
#: What such names look like; an account's own storlets can't keep one.
NAMES = rf"{MODULE}_[0-9a-f]{{16}}\.Probe"

SOURCE = b'''\
class Probe(object):
    """Copy an object with its metadata."""

    def __init__(self, logger):
        self.logger = logger

    def __call__(self, in_files, out_files, params):
        source, target = in_files[0], out_files[0]
        target.set_metadata(source.get_metadata())
        while True:
            data = source.read(65536)
            if not data:
                break
            target.write(data)
        source.close()
        target.close()
'''


def new_name() -> str:
    """Return a main class that nobody knows yet."""
    return f"{MODULE}_{secrets.token_hex(8)}.Probe"


def file(main: str) -> str:
    """Return the name of the file that has this main class."""
    return f"{main.partition('.')[0]}.py"


def is_name(main: str) -> bool:
    """Return whether a main class is a switch's."""
    return re.fullmatch(NAMES, main) is not None
