# SPDX-License-Identifier: Apache-2.0
"""The driver of Swift against a real one."""

import pytest

from container_stack.drivers import swift as driver
from container_stack.testing import object_contract, object_world

from . import swift


def login(storage: swift.Swift, user: swift.User) -> driver.Swift:
    return driver.Swift(driver.Credentials.from_environment(storage.environment(user)))


@pytest.fixture(scope="module")
def users(object_storage: swift.Swift) -> object_world.Users:
    owner = login(object_storage, swift.MANAGER)
    own = login(object_storage, swift.DEPLOYER)
    guest = own.to(swift.MANAGER.account)
    return object_world.Users(owner, guest, swift.DEPLOYER.login, own)


class TestSwift(object_contract.ObjectContract):
    pass
