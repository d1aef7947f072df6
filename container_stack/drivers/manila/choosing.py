# SPDX-License-Identifier: Apache-2.0
"""Which of its share servers Manila may put a new share on."""

from collections.abc import Sequence
from typing import Any

from container_stack import exceptions
from container_stack.drivers.manila import answers, errors
from container_stack.shares import service


class Choosing:
    """What Manila asks before it puts a share on a server that exists."""

    _shares: service.ShareService

    def choose_share_server_compatible_with_share(
        self, context: Any, share_servers: Sequence[Any], share: Any, **given: Any
    ) -> Any:
        """Return a server that speaks the share's protocol; None lets Manila make one.

        A server made before the protocol was asked for doesn't.
        """
        with errors.translated(share["id"]):
            fit = [each for each in share_servers if self._speaks(each, share["share_proto"])]
        chosen: Any = super().choose_share_server_compatible_with_share(  # type: ignore[misc]
            context, fit, share, **given
        )
        return chosen

    def _speaks(self, share_server: Any, name: str) -> bool:
        servers = self._shares.servers
        try:
            servers.speaking(servers.get(answers.server_id(share_server)), name.upper())
        except exceptions.NotSupported:
            return False
        except exceptions.NotFound:
            # It is made again, when a share needs it, with all that new ones have.
            return True
        return True
