# SPDX-License-Identifier: Apache-2.0
"""Manila's API under a threaded server of the standard library, and one request more.

Run as ``python -m acceptance.api_server PORT --config-file FILE``. A POST of ``/v2/publish`` has
every back end tell the scheduler what it has.
"""

import socketserver
import sys
from collections.abc import Iterable
from typing import Any
from wsgiref import simple_server


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    # The default of 5 resets the connections of clients that come together.
    request_queue_size = 128


class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing: Manila logs its requests itself."""


def main() -> None:
    port = int(sys.argv.pop(1))
    # Manila chooses native threads, then reads sys.argv, both while it is imported.
    from manila import context
    from manila.share import rpcapi
    from manila.wsgi import api

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/v2/publish":
            answer: Iterable[bytes] = api.application(environ, start_response)
            return answer
        rpcapi.ShareAPI().publish_service_capabilities(context.get_admin_context())
        start_response("204 No Content", [])
        return []

    server = simple_server.make_server("127.0.0.1", port, application, Server, Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
