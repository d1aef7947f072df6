# SPDX-License-Identifier: Apache-2.0
"""Who calls Swift: Keystone v3, by any plugin of keystoneauth1's, or tempauth's v1."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Self

from keystoneauth1 import exceptions as keystone_exceptions
from keystoneauth1 import loading, session

from container_stack import exceptions

#: As OS_AUTH_TYPE has it; without that variable it is a user and a password.
KEYSTONE, APPLICATION, TEMPAUTH = "v3password", "v3applicationcredential", "v1password"
#: What openrc files called projects once.
_OLD = {"project_id": "OS_TENANT_ID", "project_name": "OS_TENANT_NAME"}
#: keystoneauth's options of tempauth's plugin, as swiftclient's shell knows them.
_TEMPAUTH = {"auth_url": "ST_AUTH", "username": "ST_USER", "password": "ST_KEY"}


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What a user logs in with.

    :param kind: a plugin of keystoneauth1's, such as v3password.
    :param options: that plugin's; secrets among them.
    :param region: where the catalogue names several; empty: the first.
    :param ca_file: who signed the certificates; empty: whom the system trusts.
    :param timeout: seconds of silence after which a request is made again, or has failed.
    """

    kind: str
    options: Mapping[str, str] = dataclasses.field(repr=False)
    region: str = ""
    interface: str = "public"
    ca_file: str = ""
    timeout: float = 60.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return what OS_... say, or without OS_AUTH_URL what ST_AUTH, ST_USER and ST_KEY do.

        Every option of the plugin that OS_AUTH_TYPE names is read, by OpenStack's own names:
        OS_USERNAME, OS_PROJECT_NAME, OS_APPLICATION_CREDENTIAL_SECRET. OS_CACERT,
        OS_REGION_NAME and OS_INTERFACE hold for both.

        :raises InvalidRequest: neither is there, or something is missing.
        """
        if environment.get("OS_AUTH_URL"):
            kind = environment.get("OS_AUTH_TYPE") or _guess(environment)
            options = _from_openstack(kind, environment)
        elif environment.get("ST_AUTH"):
            kind = TEMPAUTH
            options = {key: environment.get(name, "") for key, name in _TEMPAUTH.items()}
        else:
            raise exceptions.InvalidRequest(
                "Who calls? Set OS_AUTH_URL and the other OS_... variables of an openrc file, or "
                "ST_AUTH, ST_USER and ST_KEY."
            )
        return cls(
            kind,
            {key: value for key, value in options.items() if value},
            region=environment.get("OS_REGION_NAME", ""),
            interface=environment.get("OS_INTERFACE") or "public",
            ca_file=environment.get("OS_CACERT", ""),
        )

    def session(self) -> Any:
        """Return a session of keystoneauth1's; nobody is asked before its first request.

        :raises InvalidRequest: an option is missing.
        """
        try:
            plugin = _loader(self.kind).load_from_options(**self.options)
        except keystone_exceptions.MissingRequiredOptions as exc:
            names = ", ".join(_variable(self.kind, each.dest) for each in exc.options)
            raise exceptions.InvalidRequest(f"To log in, set {names}, too.") from exc
        except keystone_exceptions.OptionError as exc:
            raise exceptions.InvalidRequest(f"Nobody can log in so: {exc}") from exc
        return session.Session(
            plugin,
            verify=self.ca_file or True,
            timeout=self.timeout,
            app_name="container-stack",
        )


def _guess(environment: Mapping[str, str]) -> str:
    return APPLICATION if environment.get("OS_APPLICATION_CREDENTIAL_SECRET") else KEYSTONE


def _from_openstack(kind: str, environment: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for option in _loader(kind).get_options():
        names = [_variable(kind, each.dest) for each in (option, *option.deprecated)]
        values = [environment.get(name) for name in (*names, _OLD.get(option.dest, ""))]
        options[option.dest] = next(filter(None, values), "")
    return options


def _variable(kind: str, option: str) -> str:
    if kind == TEMPAUTH:
        return _TEMPAUTH[option]
    return f"OS_{option.upper()}"


def _loader(kind: str) -> Any:
    try:
        return loading.get_plugin_loader(kind)
    except keystone_exceptions.NoMatchingPlugin as exc:
        raise exceptions.InvalidRequest(f"OS_AUTH_TYPE={kind} isn't known here.") from exc
