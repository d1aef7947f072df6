# SPDX-License-Identifier: Apache-2.0
"""Manila behind Keystone: who calls is known by a token, and may do what the policy says."""

from keystoneauth1 import session
from keystoneauth1.identity import v3

from . import keystone, manila, nova_cloud, nova_config

#: The type in the catalogue.
KIND = "shared-file-system"


class Identity:
    """Everyone who asks is an administrator of the project that he names; users are Keystone's."""

    def __init__(self, running: keystone.Keystone) -> None:
        self._keystone = running

    def options(self) -> manila.Sections:
        for role in (nova_cloud.ADMIN, nova_cloud.SERVICE):
            self._keystone.add_user("manila", nova_config.PASSWORD, nova_config.PROJECT, role)
        return {
            "DEFAULT": {"auth_strategy": "keystone"},
            "oslo_policy": {"enforce_scope": True, "enforce_new_defaults": True},
            "keystone_authtoken": {
                "www_authenticate_uri": self._keystone.url,
                "auth_url": self._keystone.url,
                "auth_type": "password",
                "username": "manila",
                "password": nova_config.PASSWORD,
                "project_name": nova_config.PROJECT,
                "user_domain_id": "default",
                "project_domain_id": "default",
                "service_token_roles_required": True,
            },
        }

    def token(self, project: str) -> str:
        user = self.admin(project)
        auth = v3.Password(
            self._keystone.url,
            username=user.name,
            password=user.password,
            project_name=user.project,
            user_domain_id="default",
            project_domain_id="default",
        )
        token = session.Session(auth).get_token()
        assert token
        return token

    def admin(self, project: str) -> keystone.User:
        """Return the administrator of a project, made if need be."""
        name = f"purser-of-{project}"
        return self._keystone.add_user(name, f"{name}-and-keys", project, nova_cloud.ADMIN)
