# SPDX-License-Identifier: Apache-2.0
"""What goes to a Datera EDF array and comes back, as plain values.

Use these through :mod:`container_stack.imagestore.edf`. Sizes are bytes unless a name says GiB:
the array makes volumes of whole GiB. Times are seconds.
"""

import dataclasses
import re

from container_stack import exceptions

GIB = 1024**3
#: GiB; what one volume may have.
SMALLEST, LARGEST = 1, 32768
#: The only port on which an array speaks plain HTTP.
HTTP_PORT = 7717
#: Names of the only storage instance of our app instances, and of its only volume.
STORAGE_INSTANCE = "storage-1"
VOLUME = "volume-1"
#: The state of what can be used.
AVAILABLE = "available"
#: The tenant above all others.
ROOT = "/root"

_TENANT_NAME = re.compile(r"[\w\-.]{1,63}", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an array is, who we are to it, and how long to wait for it.

    :param address: host name or IP address; a certificate must be made out to it.
    :param port: 7717 speaks plain HTTP, every other one HTTPS.
    :param tenant: /root, /root/NAME, or NAME, which lies below /root.
    :param ca_file: CA certificates (PEM) to check the array's by; empty: the system's.
    :param verify: False accepts any certificate, and so anybody who claims to be the array.
    :param timeout: seconds that one request may take.
    :param retry_attempts: how often a request is made again when the array says 503, or when
        the connection breaks.
    :param retry_interval: seconds between those.
    :param operation_timeout: seconds that one operation may take, with all its repetitions, such
        as growing a volume.
    """

    address: str
    login: str
    password: str = dataclasses.field(repr=False)
    port: int = 7718
    tenant: str = ROOT
    ca_file: str = ""
    verify: bool = True
    timeout: float = 30.0
    retry_attempts: int = 30
    retry_interval: float = 2.0
    operation_timeout: float = 600.0

    @property
    def url(self) -> str:
        """As https://192.0.2.7:7718."""
        scheme = "http" if self.port == HTTP_PORT else "https"
        address = self.address.strip("[]")
        host = f"[{address}]" if ":" in address else address
        return f"{scheme}://{host}:{self.port}"

    @property
    def tenant_path(self) -> str:
        """As the array wants it: /root or /root/NAME.

        :raises InvalidRequest: the tenant is none of the forms.
        """
        names = self.tenant.strip("/").split("/")
        if names == [""] and self.tenant in ("", "/"):
            return ROOT
        below = names[1:] if names[0] == "root" else names
        absolute = self.tenant.startswith("/")
        if (absolute and names[0] != "root") or not all(map(_TENANT_NAME.fullmatch, below)):
            raise exceptions.InvalidRequest(
                f"{self.tenant!r} is no tenant; give /root, /root/NAME or NAME."
            )
        return "/".join((ROOT, *below))


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """An array.

    :param sw_version: of its software, as 2.2.7.1.
    :param total: bytes that it has; None when it doesn't say.
    :param available: bytes that are free.
    """

    name: str
    sw_version: str
    total: int | None
    available: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume as the array last told of it.

    :param size_gib: its size.
    :param capacity_in_use: what the array reports as taken up, in its own unit; thin volumes
        start at 0.
    :param placement: a mode as ``hybrid``, or from software 3.3 on a policy's path.
    :param op_state: "available" when it can be used.
    :param op_status: other than "" and "available" while the array still works at the volume.
    """

    name: str
    uuid: str
    path: str
    size_gib: int
    capacity_in_use: int
    replica_count: int
    placement: str
    op_state: str
    op_status: str


@dataclasses.dataclass(frozen=True, slots=True)
class AppInstance:
    """An app instance: of ours, one volume behind one target.

    :param path: the array's own name for it, as /app_instances/UUID.
    :param admin_state: "online" or "offline".
    :param clone_of: path of what it was cloned from; "" when of nothing, or not told.
    :param volume: None when the array shows no volume ``volume-1`` in it.
    """

    name: str
    uuid: str
    path: str
    admin_state: str
    op_state: str
    clone_of: str
    volume: Volume | None


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a volume.

    :param path: what to clone from and to delete by.
    :param timestamp: its name among the volume's snapshots, seconds since 1970 as
        "1700000000.123456".
    :param op_state: "available" when it can be cloned.
    """

    path: str
    timestamp: str
    uuid: str
    op_state: str
