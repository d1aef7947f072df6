# SPDX-License-Identifier: Apache-2.0
"""Manila's API under a threaded server of the standard library.

Run as ``python -m acceptance.api_server PORT --config-file FILE``.
"""

import socketserver
import sys
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
    from manila.wsgi import api

    server = simple_server.make_server("127.0.0.1", port, api.application, Server, Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
