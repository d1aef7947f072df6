# SPDX-License-Identifier: Apache-2.0
"""What ``container-stack datera check`` looks at."""

import dataclasses
from collections.abc import Callable, Iterator

from container_stack import exceptions
from container_stack.host import abilities, attach_choose
from container_stack.host.abilities import Finding, judge
from container_stack.imagestore import assembly, edf, edf_model

_GIB = edf_model.GIB


def findings(read: Callable[[], assembly.Settings]) -> Iterator[Finding]:
    """Yield all that a store needs or could use.

    :param read: returns its settings.
    """
    try:
        settings = read()
    except exceptions.ContainerStackError as exc:
        yield judge("configuration", False, str(exc), fix="correct glance-api.conf")
        return
    yield judge("configuration", True, f"store {settings.name}")
    yield _secrecy(settings.endpoint)
    yield from _array(settings.endpoint)
    yield _attaching(settings)
    yield abilities.directory(settings.state_dir)


def _secrecy(endpoint: edf.Endpoint) -> Finding:
    """Tell whether the password goes to the array, and to nobody else."""
    subject = f"connection to {endpoint.url}"
    if endpoint.url.startswith("http:"):
        return judge(
            subject,
            False,
            "plain HTTP: who is on the way reads the password",
            fix="set datera_san_port = 7718",
            needed=False,
        )
    return judge(
        subject,
        endpoint.verify,
        f"TLS, checked by {endpoint.ca_file or 'the CAs of this host'}"
        if endpoint.verify
        else "TLS, unchecked: whoever answers there gets the password",
        fix="set datera_ca_file, and datera_verify = True",
        needed=False,
    )


def _array(endpoint: edf.Endpoint) -> Iterator[Finding]:
    """Tell whether the array answers, knows us and our tenant, and has room."""
    client = edf.Client(dataclasses.replace(endpoint, retry_attempts=0))
    subject = f"array {endpoint.address}"
    try:
        version = client.api_version()
        yield judge(subject, True, f"REST {version}; knows {endpoint.login}")
        yield from _tenant(client)
    except exceptions.ContainerStackError as exc:
        yield judge(subject, False, str(exc), fix=_cure(exc))
    finally:
        client.close()


def _tenant(client: edf.Client) -> Iterator[Finding]:
    subject = f"tenant {client.endpoint.tenant_path}"
    try:
        system = client.system()
        next(client.app_instances(), None)
    except (exceptions.NotFound, exceptions.InvalidRequest) as exc:
        fix = "start glance-api, which makes it"
        yield judge(subject, False, f"not there: {exc}", fix=fix, needed=False)
        return
    yield judge(subject, True, f"on {system.name or 'an array'}, software {system.sw_version}")
    if system.total is not None and system.available is not None:
        free, total = system.available / _GIB, system.total / _GIB
        yield judge(
            "room on the array",
            system.available > 0,
            f"{free:.1f} of {total:.1f} GiB free",
            fix="delete images, or add drives",
        )


def _cure(exc: exceptions.ContainerStackError) -> str:
    """Return what to do about an array that can't be used."""
    cures: dict[type[exceptions.ContainerStackError], str] = {
        exceptions.AccessDenied: "correct datera_san_login, datera_san_password, datera_tenant_id",
        exceptions.HostNotReady: "correct datera_ca_file, or datera_san_ip",
        exceptions.InvalidRequest: "correct datera_san_ip and datera_tenant_id",
        exceptions.NotSupported: "update the array's software",
    }
    return cures.get(type(exc), "check datera_san_ip, datera_san_port and the network between")


def _attaching(settings: assembly.Settings) -> Finding:
    """Tell how volumes are reached, and whether they can be."""
    subject = f"attaching by {settings.attacher or 'whatever works here'}"
    try:
        attacher = attach_choose.choose(settings.attacher, settings.attach_options)
        facts = attacher.check()
    except exceptions.ContainerStackError as exc:
        return judge(subject, False, str(exc), fix="see the detail")
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    return judge(subject, True, f"{told}; initiator {attacher.initiator}")
