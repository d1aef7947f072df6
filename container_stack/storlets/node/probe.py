# SPDX-License-Identifier: Apache-2.0
"""A storlet that changes nothing: what comes back different, the sandbox did.

It is given to sandboxes as source, and runs under whatever Python an image has.
"""

MODULE = "container_stack_probe"
#: As X-Object-Meta-Storlet-Main has it.
MAIN = f"{MODULE}.Probe"
FILE = f"{MODULE}.py"

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
