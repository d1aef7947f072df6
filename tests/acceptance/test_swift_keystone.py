# SPDX-License-Identifier: Apache-2.0
"""The driver of Swift where Keystone says who calls."""

import logging
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.drivers import swift as driver
from container_stack.storlets import model
from container_stack.storlets.store import accounts, claims
from container_stack.testing import object_contract, object_world

from . import keystone, process, swift


@pytest.fixture(scope="module")
def identity(
    object_storage: swift.Swift, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[keystone.Keystone]:
    """Keystone, with Swift in its catalogue; in the end none of its processes is left."""
    directory = tmp_path_factory.mktemp("keystone")
    with (
        keystone.running(directory) as running,
        keystone.proxy(running, object_storage, directory),
    ):
        yield running
    assert process.mentioning(str(directory)) == []


@pytest.fixture(scope="module")
def manager(identity: keystone.Keystone) -> keystone.User:
    return identity.add_user("manager", "topsail-2", "customer", keystone.OPERATOR)


@pytest.fixture(scope="module")
def deployer(identity: keystone.Keystone) -> keystone.User:
    return identity.add_user("deployer", "mainsail-6", "storlets", keystone.OPERATOR)


@pytest.fixture(scope="module")
def chief(identity: keystone.Keystone) -> keystone.User:
    return identity.add_user("chief", "jib-boom-8", "storlets", keystone.RESELLER)


def login(environment: dict[str, str]) -> driver.Swift:
    return driver.Swift(driver.Credentials.from_environment(environment))


class TestSwiftWithKeystone(object_contract.ObjectContract):
    @pytest.fixture
    def users(
        self, identity: keystone.Keystone, manager: keystone.User, deployer: keystone.User
    ) -> object_world.Users:
        owner, own = (login(identity.environment(each)) for each in (manager, deployer))
        return object_world.Users(owner, own.to(owner.account), deployer.acl, own)


def test_application_credential_is_as_good_as_a_password(
    identity: keystone.Keystone, manager: keystone.User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environment = identity.application_credential(manager, "image-manager")
    caplog.clear()
    credentials = driver.Credentials.from_environment(environment)
    store = driver.Swift(credentials)
    assert store.account == manager.account
    store.set_container("private", {})
    store.write("private", "a", b"x")
    secret = environment["OS_APPLICATION_CREDENTIAL_SECRET"]
    assert secret not in caplog.text + repr(credentials) + repr(store)
    assert "private" in caplog.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"OS_PASSWORD": "wrong-horse-9"}, exceptions.AccessDenied),
        ({"OS_USERNAME": "nobody"}, exceptions.AccessDenied),
        ({"OS_PROJECT_NAME": "nothing"}, exceptions.AccessDenied),
        ({"OS_USER_DOMAIN_ID": ""}, exceptions.InvalidRequest),
        ({"OS_REGION_NAME": "elsewhere"}, exceptions.HostNotReady),
        ({"OS_INTERFACE": "internal"}, exceptions.HostNotReady),
        ({"OS_AUTH_TYPE": "v9magic"}, exceptions.InvalidRequest),
    ],
)
def test_what_is_wrong_with_a_login_is_told_without_secrets(
    identity: keystone.Keystone,
    manager: keystone.User,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, str],
    error: type[exceptions.ContainerStackError],
) -> None:
    caplog.set_level(logging.DEBUG)
    environment = {**identity.environment(manager), **change}
    with pytest.raises(error) as caught:
        login(environment).account_headers()
    assert environment["OS_PASSWORD"] not in caplog.text + repr(caught.value)


def test_account_is_enabled_and_used_by_ids(
    identity: keystone.Keystone,
    manager: keystone.User,
    deployer: keystone.User,
    chief: keystone.User,
) -> None:
    account = model.Account(manager.account)
    provider = login(identity.environment(chief))
    known = claims.Claims(provider)
    opened = provider.to(account.name)
    assert accounts.enable(opened, known, account, (deployer.acl, manager.acl))
    assert accounts.enable(opened, known, account, (deployer.acl, manager.acl)) == []
    theirs = login(identity.environment(deployer)).to(account.name)
    theirs.write(model.IMAGES, "a.tar", b"x", metadata={"Image-Name": "one"})
    (found,) = accounts.images(login(identity.environment(manager)))
    assert (found.name, found.object.size) == ("one", 1)
    accounts.disable(opened, known, account)
    with pytest.raises(exceptions.AccessDenied):
        theirs.head(model.IMAGES, "a.tar")
