# SPDX-License-Identifier: Apache-2.0
"""The configuration of a small cloud, section by section, as its operator would write it."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from . import manila

ETC = Path(sys.prefix) / "etc"
#: What each service logs in with.
PASSWORD = "capstan-and-windlass-9"
PROJECT = "service"
REGION = "RegionOne"
#: Services with a database, by the names of their databases.
DATABASES = ("glance", "placement", "neutron", "nova_api", "nova", "nova_cell0", "heat")


@dataclasses.dataclass(frozen=True, slots=True)
class Backing:
    """What all services stand on.

    :param databases: URLs, by name.
    :param broker: the URL of the message broker.
    :param ports: of the loopback address, by service.
    """

    directory: Path
    databases: Mapping[str, str]
    broker: str
    ports: Mapping[str, int]

    @property
    def keystone(self) -> str:
        """The URL by which one logs in."""
        return f"{self.url('keystone')}/v3"

    def url(self, service: str) -> str:
        """Return where a service answers."""
        return f"http://127.0.0.1:{self.ports[service]}"


def placement(backing: Backing) -> manila.Sections:
    return {
        "api": {"auth_strategy": "keystone"},
        "placement_database": {"connection": backing.databases["placement"]},
        **_authtoken(backing, "placement"),
    }


def glance(backing: Backing) -> manila.Sections:
    directory = backing.directory / "glance"
    return {
        "DEFAULT": {
            "enabled_backends": "disk:file",
            "worker_self_reference_url": backing.url("glance"),
        },
        "database": {"connection": backing.databases["glance"]},
        "glance_store": {"default_backend": "disk"},
        "disk": {"filesystem_store_datadir": directory / "images"},
        "os_glance_staging_store": {"filesystem_store_datadir": directory / "staging"},
        "os_glance_tasks_store": {"filesystem_store_datadir": directory / "tasks"},
        "paste_deploy": {
            "flavor": "keystone",
            "config_file": ETC / "glance/glance-api-paste.ini",
        },
        **_authtoken(backing, "glance"),
    }


def neutron(backing: Backing, mechanism: str) -> manila.Sections:
    return {
        "DEFAULT": {
            "transport_url": backing.broker,
            "state_path": backing.directory / "neutron/state",
            "core_plugin": "ml2",
            "service_plugins": "",
            "auth_strategy": "keystone",
            "api_paste_config": ETC / "neutron/api-paste.ini",
        },
        "database": {"connection": backing.databases["neutron"]},
        "oslo_concurrency": {"lock_path": backing.directory / "neutron/locks"},
        "ml2": {
            "type_drivers": "local",
            "tenant_network_types": "local",
            "mechanism_drivers": mechanism,
            "extension_drivers": "port_security",
        },
        **_authtoken(backing, "neutron"),
        **_client(backing, "nova", "neutron"),
    }


def nova(backing: Backing) -> manila.Sections:
    """Return what all of Nova's services share."""
    directory = backing.directory / "nova"
    return {
        "DEFAULT": {
            "my_ip": "127.0.0.1",
            "transport_url": backing.broker,
            "state_path": directory / "state",
            "enabled_apis": "osapi_compute",
            "allow_resize_to_same_host": True,
            # Seconds; the service's state is told by it.
            "report_interval": 5,
            # And what is left of servers that are deleted is found by this.
            "running_deleted_instance_poll_interval": 5,
            # A service says only to who debugs it that it takes orders.
            "default_log_levels": "container_stack=DEBUG,nova.service=DEBUG,amqp=WARN,"
            "oslo.messaging=WARN,oslo_messaging=WARN,oslo_policy=ERROR,sqlalchemy=WARN,urllib3=WARN,"
            "keystoneauth=WARN,keystonemiddleware=WARN",
        },
        "wsgi": {"api_paste_config": ETC / "nova/api-paste.ini"},
        "api_database": {"connection": backing.databases["nova_api"]},
        "database": {"connection": backing.databases["nova"]},
        "oslo_concurrency": {"lock_path": directory / "locks"},
        "scheduler": {"workers": 1},
        "conductor": {"workers": 1},
        "vnc": {"enabled": False},
        "serial_console": {
            "enabled": True,
            "base_url": backing.url("serialproxy").replace("http", "ws") + "/",
            "proxyclient_address": "127.0.0.1",
            "serialproxy_host": "127.0.0.1",
            "serialproxy_port": backing.ports["serialproxy"],
        },
        **_authtoken(backing, "nova"),
        **_client(backing, "placement", "nova"),
        **_client(backing, "neutron", "nova"),
        **_client(backing, "glance", "nova"),
        # By Neutron's policy a server's port is deleted by a service, if for its user.
        **_client(backing, "service_user", "nova", send_service_user_token=True),
    }


def heat(backing: Backing) -> manila.Sections:
    [(_, trustee)] = _client(backing, "trustee", "heat").items()
    return {
        "DEFAULT": {
            "transport_url": backing.broker,
            "num_engine_workers": 1,
            # What is refused once is refused again.
            "action_retry_limit": 0,
            "heat_metadata_server_url": backing.url("heat"),
            "plugin_dirs": "",
        },
        "database": {"connection": backing.databases["heat"]},
        "oslo_concurrency": {"lock_path": backing.directory / "heat/locks"},
        "paste_deploy": {"api_paste_config": ETC / "heat/api-paste.ini"},
        "clients_keystone": {"auth_uri": backing.keystone},
        "trustee": {name: trustee[name] for name in trustee if not name.startswith("project")},
        **_authtoken(backing, "heat"),
    }


def _authtoken(backing: Backing, user: str) -> dict[str, dict[str, object]]:
    made = _client(backing, "keystone_authtoken", user)
    made["keystone_authtoken"] |= {
        "www_authenticate_uri": backing.keystone,
        "service_token_roles_required": True,
    }
    return made


def _client(
    backing: Backing, section: str, user: str, **more: object
) -> dict[str, dict[str, object]]:
    """Return a section by which a service calls another one."""
    return {
        section: {
            "auth_url": backing.keystone,
            "auth_type": "password",
            "username": user,
            "password": PASSWORD,
            "project_name": PROJECT,
            "user_domain_id": "default",
            "project_domain_id": "default",
            "region_name": REGION,
            **more,
        }
    }
