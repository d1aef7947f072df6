# SPDX-License-Identifier: Apache-2.0
"""``python syslog_listener.py SOCKET LOG``: listen where programs log to, until SIGTERM."""

import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        mine = os.stat(path).st_ino
        path.chmod(0o666)
        try:
            with Path(sys.argv[2]).open("wb", buffering=0) as log:
                while True:
                    log.write(listener.recv(65536).rstrip(b"\0\n") + b"\n")
        finally:
            if os.stat(path).st_ino == mine:
                path.unlink()


if __name__ == "__main__":
    main()
