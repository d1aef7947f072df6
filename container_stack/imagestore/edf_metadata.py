# SPDX-License-Identifier: Apache-2.0
"""What is noted at an app instance of a Datera EDF array."""

import logging
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.imagestore import edf_bodies, edf_calls, edf_json

LOG = logging.getLogger(__name__)


def read(calls: edf_calls.Calls, instance: str) -> dict[str, str]:
    """Return it.

    :param instance: path of the app instance.
    """
    try:
        return edf_json.metadata(calls.get(_path(calls, instance)))
    except exceptions.NotFound:
        # An array may say so, too, where nothing is noted yet.
        calls.get(instance)
        return {}


def write(calls: edf_calls.Calls, instance: str, values: Mapping[str, str]) -> None:
    """Note these; other keys stay."""
    noted = {**read(calls, instance), **values}
    body = {"data": noted} if _is_elsewhere(calls) else noted
    calls.put(_path(calls, instance), body)
    LOG.info("Noted %(keys)s at %(path)s", {"keys": ", ".join(values), "path": instance})


def _path(calls: edf_calls.Calls, instance: str) -> str:
    return f"{instance}/{'int_ecosystem_data' if _is_elsewhere(calls) else 'metadata'}"


def _is_elsewhere(calls: edf_calls.Calls) -> bool:
    """Tell whether the place for services' notes isn't the one for users'."""
    return calls.software() >= edf_bodies.POLICIES_SINCE
