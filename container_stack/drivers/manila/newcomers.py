# SPDX-License-Identifier: Apache-2.0
"""Share servers that Manila may not know: it writes them down when the driver has made them.

If manila-share is killed between, Manila has a server in error without details, asks for nothing
to be removed, and the one that was made would stay for ever. So it is on a list until Manila asks
for a share on it, which it does only with what it has written down.
"""

import contextlib
import logging
import os

from container_stack import exceptions
from container_stack.host import records
from container_stack.shares import assembly, service

LOG = logging.getLogger(__name__)


class Newcomers:
    """That list, one for each back end; it outlives the process."""

    def __init__(self, shares: service.ShareService, settings: assembly.Settings) -> None:
        self._shares = shares
        directory = os.path.join(settings.state_dir, "newcomers", settings.owner)
        self._listed = records.Records(directory)

    def add(self, server_id: str) -> None:
        """List a server that is about to be made."""
        self._listed.write(server_id, {})

    def known(self, server_id: str) -> None:
        """Manila has shown that it knows a server, or has removed it; idempotent."""
        if os.path.exists(self._listed.path(server_id)):
            self._listed.remove(server_id)

    def remove(self) -> None:
        """Remove those that are listed, but not from under their shares: call at every start.

        If Manila knows one of them after all, it is made again when Manila wants it.
        """
        for server_id in self._listed.names():
            with contextlib.suppress(exceptions.Busy):
                self._shares.delete_server(server_id)
                LOG.info("Removed share server %(id)s, which has no share", {"id": server_id})
            self._listed.remove(server_id)
