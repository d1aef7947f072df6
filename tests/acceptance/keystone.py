# SPDX-License-Identifier: Apache-2.0
"""A real Keystone on SQLite, and a second proxy of a running Swift whose users are Keystone's."""

import configparser
import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from keystoneauth1 import session
from keystoneauth1.identity import v3

from . import manila, process, swift

_BIN = Path(sys.prefix) / "bin"
_DOMAIN = "default"
_ADMIN = "bitts-and-cleats-4"
#: What Swift takes for the administrator of an account, and of all accounts.
OPERATOR, RESELLER = "swiftoperator", "ResellerAdmin"


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """Somebody with a role in a project.

    :param id: the user's, and ``project_id`` the project's: ACLs know both.
    """

    name: str
    password: str
    id: str
    project: str
    project_id: str

    @property
    def account(self) -> str:
        """The account as in its URL."""
        return f"AUTH_{self.project_id}"

    @property
    def acl(self) -> str:
        """What an ACL calls the user."""
        return f"{self.project_id}:{self.id}"


@dataclasses.dataclass(frozen=True, slots=True)
class Keystone:
    """A running Keystone."""

    url: str

    def environment(self, user: User) -> dict[str, str]:
        """Return what an openrc file of the user's sets."""
        return {
            "OS_AUTH_URL": self.url.removesuffix("/v3"),
            "OS_USERNAME": user.name,
            "OS_PASSWORD": user.password,
            "OS_USER_DOMAIN_ID": _DOMAIN,
            "OS_PROJECT_NAME": user.project,
            "OS_PROJECT_DOMAIN_ID": _DOMAIN,
            "OS_REGION_NAME": "RegionOne",
            "OS_IDENTITY_API_VERSION": "3",
        }

    def application_credential(self, user: User, name: str) -> dict[str, str]:
        """Make one of the user's, and return what an openrc file with it sets."""
        mine = self._session(user.name, user.password, user.project)
        path = f"/users/{user.id}/application_credentials"
        made = _post(mine, f"{self.url}{path}", "application_credential", name=name)
        return {
            "OS_AUTH_TYPE": "v3applicationcredential",
            "OS_AUTH_URL": self.url,
            "OS_APPLICATION_CREDENTIAL_ID": made["id"],
            "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"],
        }

    def add_user(self, name: str, password: str, project: str, role: str) -> User:
        """Make a user, and the project and the role if need be."""
        admin = self.admin()
        project_id = self._have(admin, "project", name=project, domain_id=_DOMAIN)
        user_id = self._have(admin, "user", name=name, domain_id=_DOMAIN, password=password)
        role_id = self._have(admin, "role", name=role)
        admin.put(f"{self.url}/projects/{project_id}/users/{user_id}/roles/{role_id}")
        return User(name, password, user_id, project, project_id)

    def add_service(self, kind: str, url: str) -> None:
        """Put a service into the catalogue."""
        admin = self.admin()
        service_id = _post(admin, f"{self.url}/services", "service", type=kind, name=kind)["id"]
        region = {"region_id": "RegionOne", "interface": "public"}
        _post(admin, f"{self.url}/endpoints", "endpoint", service_id=service_id, url=url, **region)

    def admin(self) -> session.Session:
        """Return a session of Keystone's own administrator."""
        return self._session("admin", _ADMIN, "admin")

    def _session(self, user: str, password: str, project: str) -> session.Session:
        domains = {"user_domain_id": _DOMAIN, "project_domain_id": _DOMAIN}
        auth = v3.Password(
            self.url, username=user, password=password, project_name=project, **domains
        )
        return session.Session(auth)

    def _have(self, admin: session.Session, kind: str, name: str, **fields: str) -> str:
        listed = admin.get(f"{self.url}/{kind}s", params={"name": name}).json()[f"{kind}s"]
        found = listed or [_post(admin, f"{self.url}/{kind}s", kind, name=name, **fields)]
        identifier: str = found[0]["id"]
        return identifier


def _post(caller: session.Session, where: str, kind: str, **fields: str) -> dict[str, Any]:
    made: dict[str, Any] = caller.post(where, json={kind: fields}).json()[kind]
    return made


@contextlib.contextmanager
def running(directory: Path, port: int | None = None, threads: int = 4) -> Iterator[Keystone]:
    """Run Keystone.

    :param port: None takes a free one.
    :param threads: more than one may find the database locked when two write at once.
    """
    port = port or process.free_port()
    url = f"http://127.0.0.1:{port}/v3"
    config = directory / "keystone.conf"
    manila.write_config(
        config,
        {
            "database": {"connection": f"sqlite:///{directory}/keystone.sqlite"},
            "token": {"provider": "fernet"},
            # The least: every log-in of a service takes its time otherwise.
            "identity": {"password_hash_rounds": 4},
            **{
                name: {"key_repository": directory / name}
                for name in ("fernet_tokens", "fernet_receipts", "credential")
            },
        },
    )
    _manage(config, "db_sync")
    _manage(config, "fernet_setup", "--keystone-user", "root", "--keystone-group", "root")
    # Public for users; Swift's proxy goes by the internal one.
    urls = ("--bootstrap-public-url", url, "--bootstrap-internal-url", url)
    words = ("--bootstrap-password", _ADMIN, "--bootstrap-region-id", "RegionOne", *urls)
    _manage(config, "bootstrap", *words)
    # Keystone takes the words of the command line for its own, so that gunicorn's are in a file.
    (directory / "gunicorn.conf.py").write_text(
        f"wsgi_app = 'keystone.wsgi.api:application'\nbind = '127.0.0.1:{port}'\n"
        f"proc_name = '{directory}'\nthreads = {threads}\n",
        encoding="utf-8",
    )
    server = process.Process(
        "keystone",
        [sys.executable, "-m", "gunicorn"],
        directory,
        environment={"OS_KEYSTONE_CONFIG_FILES": str(config)},
    )
    with server:
        process.wait_for("keystone", lambda: _answers(url), processes=[server])
        yield Keystone(url)


@contextlib.contextmanager
def proxy(keystone: Keystone, storage: swift.Swift, directory: Path) -> Iterator[int]:
    """Run another proxy of that Swift, which asks Keystone who calls, and yield its port."""
    port = process.free_port()
    parser = configparser.RawConfigParser(default_section="no defaults")
    parser.read(storage.directory / "etc" / "proxy.conf")
    asking = {
        "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
        "www_authenticate_uri": keystone.url,
        "auth_url": keystone.url,
        "auth_type": "password",
        "username": "admin",
        "password": _ADMIN,
        "project_name": "admin",
        "user_domain_id": _DOMAIN,
        "project_domain_id": _DOMAIN,
        "delay_auth_decision": "true",
        "service_token_roles_required": "true",
    }
    roles = {
        "use": "egg:swift#keystoneauth",
        "operator_roles": OPERATOR,
        "reseller_admin_role": RESELLER,
    }
    pipeline = parser["pipeline:main"]["pipeline"].replace("tempauth", "authtoken keystoneauth")
    parser.remove_section("filter:tempauth")
    config = directory / "keystone-proxy.conf"
    manila.write_config(
        config,
        {section: dict(parser[section]) for section in parser.sections()},
        {
            "DEFAULT": {"bind_port": port},
            "pipeline:main": {"pipeline": pipeline},
            "filter:authtoken": asking,
            "filter:keystoneauth": roles,
        },
    )
    argv = [str(_BIN / "swift-proxy-server"), str(config), "--verbose"]
    with process.Process("keystone-proxy", argv, directory) as server:
        process.wait_for("the proxy", lambda: process.listens(port), processes=[server])
        keystone.add_service("object-store", f"http://127.0.0.1:{port}/v1/AUTH_$(project_id)s")
        yield port


def _answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=30).status_code == 200
    return False


def _manage(config: Path, *words: str) -> None:
    argv = [str(_BIN / "keystone-manage"), "--config-file", str(config), *words]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"keystone-manage {words[0]} failed:\n{result.stderr}"
