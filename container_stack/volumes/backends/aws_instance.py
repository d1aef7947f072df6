# SPDX-License-Identifier: Apache-2.0
"""Which EC2 instance this host is, from its metadata service.

Version 2 of the service wants a token that is asked for first; where it is unknown (or where a
container is one network hop too far away for it) version 1 is asked, which an operator may have
turned off: Amazon's "Use the Instance Metadata Service to access instance metadata".
"""

import dataclasses
from collections.abc import Mapping

import requests

from container_stack import exceptions

URL = "http://169.254.169.254"

_DOCUMENT = "latest/dynamic/instance-identity/document"
_TOKEN = "latest/api/token"  # noqa: S105 - where one is had
#: Seconds to connect and to be answered: it is on this host, or nowhere.
_PATIENCE = (2.0, 5.0)
_FIELDS = {"instance_id": "instanceId", "region": "region", "availability_zone": "availabilityZone"}


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """This host, as EC2 knows it."""

    instance_id: str
    region: str
    availability_zone: str


def identify(settings: Mapping[str, str]) -> Instance:
    """Return which instance this host is: as the settings say or, where they don't, as the service.

    :raises HostNotReady: nobody says.
    """
    given = {name: settings[name] for name in _FIELDS if settings.get(name)}
    if len(given) < len(_FIELDS):
        given = {**_ask(settings.get("metadata_url") or URL), **given}
    return Instance(**given)


def _ask(url: str) -> dict[str, str]:
    url = url.rstrip("/")
    with requests.Session() as session:
        session.trust_env = False  # a proxy is no way to this host's own
        try:
            answer = session.get(
                f"{url}/{_DOCUMENT}", headers=_proof(session, url), timeout=_PATIENCE
            )
            answer.raise_for_status()
            document = answer.json()
            return {name: str(document[field]) for name, field in _FIELDS.items()}
        except (requests.RequestException, ValueError, KeyError, TypeError) as exc:
            raise exceptions.HostNotReady(
                f"The metadata service at {url} doesn't say which EC2 instance this is: if it is "
                f"one, name {', '.join(_FIELDS)} in the settings."
            ) from exc


def _proof(session: requests.Session, url: str) -> dict[str, str]:
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    try:
        answer = session.put(f"{url}/{_TOKEN}", headers=headers, timeout=_PATIENCE)
    except requests.RequestException:
        return {}
    return {"X-aws-ec2-metadata-token": answer.text} if answer.ok else {}
