# SPDX-License-Identifier: Apache-2.0
"""The Swift that other acceptance tests stand on."""

from . import swift


def test_an_object_is_its_accounts_own(object_storage: swift.Swift) -> None:
    url = object_storage.url(swift.MANAGER.account)
    manager = object_storage.session(swift.MANAGER)
    manager.put(f"{url}/hold").raise_for_status()
    manager.put(f"{url}/hold/rope", data=b"hemp").raise_for_status()

    seen = {
        user.name: object_storage.session(user).get(f"{url}/hold/rope").status_code
        for user in swift.USERS
    }

    assert seen == {"manager": 200, "member": 403, "stranger": 403, "deployer": 403, "chief": 200}
    assert manager.get(f"{url}/hold/rope").content == b"hemp"
