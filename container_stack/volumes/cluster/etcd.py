# SPDX-License-Identifier: Apache-2.0
"""Leases in etcd, version 3.4 or later, through its JSON gateway.

Locks of tooz don't do here (tooz 9.1, ``drivers/etcd3gw.py``). Its heartbeat drops the answer that
a lease has ended, and ``acquired`` goes on being true. It knows one server, where we need any of
three. A lock whose answer was lost can't be had again before its lease ends. Every attempt at a
lock that is taken leaves a lease behind. And it renews by ``lease/keepalive``, which doesn't go
through raft: a leader that has been replaced still answers it, and one that was stuck revokes, when
it wakes, leases that were renewed elsewhere (https://github.com/etcd-io/etcd/issues/15247).

So etcd3gw, on which tooz stands, is used directly, and **nothing is kept alive**: to renew means to
get a new lease and to move the key onto it. Both go through raft, so a majority has agreed; the
old lease ends with nothing on it. The move names the revision that was read just before, so a
request which the network held up changes nothing when it arrives late.
"""

import base64
import contextlib
import logging
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import etcd3gw
import requests
from etcd3gw import exceptions as etcd3gw_exceptions

from container_stack import exceptions
from container_stack.volumes.cluster import leases

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")
#: Host and port.
Server = tuple[str, int]

#: Of the gateway since etcd 3.4: told, it isn't asked for.
API = "/v3/"
PORT = 2379
#: Seconds that etcd makes of any shorter lease: three halves of its election timeout, in 3.4.
SHORTEST = 3


class EtcdLeases(leases.Leases):
    """Leases in one cluster of etcd.

    :param servers: host and port of each; the last that answered is asked first.
    :param protocol: http, or https.
    :param prefix: of the keys: different clusters of ours may share an etcd.
    :param certificates: of ``ca_cert``, ``cert_cert`` and ``cert_key``, paths of PEM files.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        prefix: str,
        times: leases.Times,
        *,
        protocol: str = "http",
        certificates: Mapping[str, str] | None = None,
    ) -> None:
        self._times = times
        self._prefix = f"{prefix.rstrip('/')}/"
        self._guard = threading.Lock()
        session = _session(certificates or {})
        self._servers = [
            etcd3gw.client(
                host,
                port,
                protocol=protocol,
                session=session,
                api_path=API,
                timeout=times.request,
            )
            for host, port in servers
        ]

    @property
    def times(self) -> leases.Times:
        return self._times

    def take(self, name: str, holder: str) -> None:
        self._ask(lambda client: self._move(client, name, holder, taking=True))

    def renew(self, name: str, holder: str) -> None:
        self._ask(lambda client: self._move(client, name, holder, taking=False))

    def drop(self, name: str, holder: str) -> None:
        key = _text(self._prefix + name)
        mine = {"key": key, "target": "VALUE", "result": "EQUAL", "value": _text(holder)}
        gone = {"request_delete_range": {"key": key}}
        self._ask(lambda client: client.transaction({"compare": [mine], "success": [gone]}))

    def holders(self) -> Mapping[str, str]:
        found = self._ask(lambda client: client.get_prefix(self._prefix))
        start = len(self._prefix)
        return {item["key"].decode()[start:]: value.decode() for value, item in found}

    def _move(self, client: Any, name: str, holder: str, *, taking: bool) -> None:
        """Put the key onto a new lease if it is, or may be made, the holder's."""
        key = self._prefix + name
        found = client.get(key, metadata=True)
        owner = found[0][0].decode() if found else None
        if owner != holder and not taking:
            raise leases.LeaseLost(f"The lease of {name} has ended.")
        if owner not in (None, holder):
            raise exceptions.Busy(f"Another has the lease of {name}.")
        revision = found[0][1]["mod_revision"] if found else 0
        lease = client.lease(self._times.lasts)
        same = {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}
        put = {"key": _text(key), "value": _text(holder), "lease": lease.id}
        moved = client.transaction({"compare": [same], "success": [{"request_put": put}]})
        if not moved.get("succeeded"):
            # Somebody was quicker, or an earlier request of ours arrived late.
            raise exceptions.ServiceUnavailable(f"The lease of {name} has just changed.")

    def _ask(self, question: Callable[[Any], Result]) -> Result:
        """Ask one server after the other until one answers.

        :raises ServiceUnavailable: none did.
        """
        with self._guard:
            servers = list(self._servers)
        why: exceptions.ServiceUnavailable | None = None
        for client in servers:
            try:
                with _translated(client):
                    answer = question(client)
            except leases.LeaseLost:
                raise
            except exceptions.ServiceUnavailable as exc:
                why = exc
                continue
            self._prefer(client)
            return answer
        assert why is not None, "there is at least one server"
        raise why

    def _prefer(self, client: Any) -> None:
        with self._guard:
            self._servers.sort(key=lambda each: each is not client)


def servers(netloc: str) -> list[Server]:
    """Return the servers that a URL names, as ``192.0.2.1:2379,[2001:db8::2]:2379``.

    :raises HostNotReady: it names none.
    """
    try:
        found = [urllib.parse.urlsplit(f"//{each}") for each in netloc.split(",")]
        named = [(each.hostname or "", each.port or PORT) for each in found]
    except ValueError as exc:
        raise exceptions.HostNotReady(f"{netloc!r} names no servers of etcd: {exc}.") from exc
    if not all(host for host, _port in named):
        raise exceptions.HostNotReady("The coordination URL names no server of etcd.")
    return named


def _session(certificates: Mapping[str, str]) -> requests.Session:
    session = requests.Session()
    # A proxy for the web is none for etcd.
    session.trust_env = False
    if "ca_cert" in certificates:
        session.verify = certificates["ca_cert"]
    if "cert_cert" in certificates:
        session.cert = (certificates["cert_cert"], certificates["cert_key"])
    return session


@contextlib.contextmanager
def _translated(client: Any) -> Iterator[None]:
    try:
        yield
    except (etcd3gw_exceptions.Etcd3Exception, requests.RequestException) as exc:
        raise exceptions.ServiceUnavailable(
            f"etcd at {client.host}:{client.port} {_fault(exc)}."
        ) from exc


def _fault(exc: Exception) -> str:
    if isinstance(exc, etcd3gw_exceptions.ConnectionTimeoutError):
        return "doesn't answer in time"
    if isinstance(exc, etcd3gw_exceptions.ConnectionFailedError):
        return "can't be reached, or has no leader"
    said = str(getattr(exc, "detail_text", None) or type(exc).__name__)
    return f"answers with an error: {said[:200]}"


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
