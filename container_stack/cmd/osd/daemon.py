# SPDX-License-Identifier: Apache-2.0
"""``osd -d``: the daemon as a process, from its configuration to the signal that ends it."""

import logging
import os
import signal
import stat
import sys
from collections.abc import Sequence

from container_stack import exceptions
from container_stack.cmd.osd import activation, arguments, assembly
from container_stack.conf import osd as conf
from container_stack.conf import osd_options

LOG = logging.getLogger(__name__)

#: Libraries whose every word would drown what we say.
NOISY = (
    "alembic",
    "docker",
    "oslo_db",
    "oslo_rootwrap",
    "sqlalchemy",
    "stevedore",
    "tooz",
    "urllib3",
    "waitress",
)
_SECRET = ("password", "secret", "token")


def run(path: str | None, drivers: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit code.

    :param path: of the configuration file; None means the usual one, if there is one.
    :param drivers: more drivers, as ``name=btrfs,root_vol=/srv/btrfs``.
    :raises ContainerStackError: it can't be served.
    """
    settings = configured(path, drivers)
    _log(settings.log_level)
    if path:
        _warn_of_readers(path, settings)
    # Before any thread, so that none of them gets the signals that this one waits for.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    served = assembly.Daemon(settings, activation.inherited(os.environ))
    served.start()
    activation.notify("READY=1")
    names = ", ".join(each.name for each in settings.drivers)
    LOG.info(
        "Serving %(drivers)s below %(directory)s",
        {"drivers": names, "directory": settings.state_dir},
    )
    got = signal.sigwait(ending)
    LOG.info("Ending: %(signal)s", {"signal": signal.Signals(got).name})
    activation.notify("STOPPING=1")
    served.stop()
    return 0


def configured(path: str | None, drivers: Sequence[str]) -> conf.Settings:
    """Return the settings of a file, and of drivers that the command line names.

    :raises InvalidRequest: they can't be meant.
    """
    extra = [_driver(text) for text in drivers]
    if path is None and extra and not os.path.exists(osd_options.FILE):
        return conf.settings({}, extra)
    return conf.read(path or osd_options.FILE, extra)


def _driver(text: str) -> conf.Driver:
    options = arguments.settings(text)
    name = options.pop("name", "")
    if not name:
        raise exceptions.InvalidRequest("--driver is name=NAME, and options of that driver.")
    return conf.driver(name, options)


def _log(level: str) -> None:
    # The journal has its own times.
    when = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"{when}%(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _warn_of_readers(path: str, settings: conf.Settings) -> None:
    keys = {key for each in settings.drivers for key in each.settings}
    secret = any(word in key for key in keys for word in _SECRET)
    if secret and os.stat(path).st_mode & stat.S_IROTH:
        LOG.warning("Everybody may read the secrets in %(path)s: chmod o= it.", {"path": path})
