# SPDX-License-Identifier: Apache-2.0
"""Accounts that are enabled for storlets, and the images in them."""

import pytest

from container_stack import exceptions
from container_stack.storlets import model
from container_stack.storlets.store import accounts, claims, documents
from container_stack.testing import objects as memory

ACCOUNT = model.Account("AUTH_305f5f3d12834be187238e080b8643e4")
#: The same first 13 characters.
TWIN = model.Account("AUTH_305f5f3d12834ffffffff")
OTHER = model.Account("AUTH_b81c40aa97e5469c8f2d")
MANAGER, DEPLOYER = f"{ACCOUNT.name[5:]}:manager", "storlets:deployer"
USERS = (DEPLOYER, MANAGER)
DOWN = exceptions.ServiceUnavailable("The store is down.")


@pytest.fixture
def operator():
    """The storlet manager's own account, as the provider's administrator sees it."""
    return memory.MemoryObjects("AUTH_storlets")


@pytest.fixture
def known(operator):
    return claims.Claims(operator)


@pytest.fixture
def store(operator):
    return operator.to(ACCOUNT.name)


def enable(store, known, **more):
    return accounts.enable(store, known, ACCOUNT, USERS, **more)


def test_claim_of_which_nothing_is_left_is_told(operator, known):
    operator.set_container(claims.CONTAINER, {})
    operator.write(claims.CONTAINER, ACCOUNT.scope, b"")
    with pytest.raises(documents.Corrupt, match=ACCOUNT.scope):
        known.check(ACCOUNT)


def test_enabled_account_has_what_storlets_asks_for(store, known):
    assert enable(store, known)
    assert store.account_headers()["x-account-meta-storlet-enabled"] == "True"
    for name in ("docker_images", "docker_images_segments"):
        headers = store.container(name)
        assert headers["x-container-read"] == headers["x-container-write"] == ",".join(USERS)
    for name in ("storlet", "dependency", "log"):
        assert "x-container-read" not in store.container(name)
    (claim,) = known.all()
    assert (claim.account, claim.scope) == (ACCOUNT.name, "305f5f3d12834")
    assert (claim.enabled, claim.users) == (True, USERS)


def test_enabling_again_changes_nothing(store, known):
    enable(store, known)
    store.cloud.requests.clear()
    assert enable(store, known) == []
    done = {each.operation for each in store.cloud.requests}
    assert not done & {"write", "set_account", "set_container"}


def test_dry_run_tells_all_and_changes_nothing(store, known):
    planned = enable(store, known, dry_run=True)
    assert {each.operation for each in store.cloud.requests} == {
        "read",
        "container",
        "account_headers",
    }
    assert planned == enable(store, known)
    assert [each.what for each in planned] == [
        "scope 305f5f3d12834",
        "container docker_images",
        "container docker_images_segments",
        "container storlet",
        "container dependency",
        "container log",
        f"account {ACCOUNT.name}",
    ]
    assert planned[1].to == (
        f"made; X-Container-Read: {','.join(USERS)}; X-Container-Write: {','.join(USERS)}"
    )


def test_enabling_that_broke_off_is_finished_by_the_next(store, known):
    for skip in range(7):
        store.faults.append(memory.Fault(DOWN, "set_container", skip=skip))
        try:
            enable(store, known)
        except exceptions.ServiceUnavailable:
            continue
        store.faults.clear()
        break
    assert skip > 0
    assert enable(store, known) == []


def test_acls_that_are_there_stay(store, known):
    store.set_container("docker_images", {"X-Container-Read": f"a:b,{DEPLOYER}"})
    store.set_container("storlet", {"X-Container-Read": ".r:*.user_storlet"})
    enable(store, known)
    assert store.container("docker_images")["x-container-read"] == f"a:b,{DEPLOYER},{MANAGER}"
    assert store.container("storlet")["x-container-read"] == ".r:*.user_storlet"


def test_both_managers_can_use_what_was_made_with_their_own_rights(store, known):
    enable(store, known)
    for user in USERS:
        view = store.to(ACCOUNT.name, user)
        view.write("docker_images", "a.tar", b"image")
        assert view.head("docker_images", "a.tar").size == 5
        assert list(view.list("docker_images_segments")) == []


def test_account_that_shares_its_scope_with_another_is_refused(store, known):
    enable(store, known)
    twin = store.to(TWIN.name)
    for dry_run in (True, False):
        with pytest.raises(exceptions.InvalidRequest, match=ACCOUNT.name):
            accounts.enable(twin, known, TWIN, USERS, dry_run=dry_run)
    assert "x-account-meta-storlet-enabled" not in twin.account_headers()
    accounts.enable(store.to(OTHER.name), known, OTHER, USERS)
    assert {each.account for each in known.all()} == {ACCOUNT.name, OTHER.name}


def test_scope_stays_with_a_disabled_account(store, known):
    enable(store, known)
    accounts.disable(store, known, ACCOUNT)
    with pytest.raises(exceptions.InvalidRequest, match=ACCOUNT.name):
        accounts.enable(store.to(TWIN.name), known, TWIN, USERS)
    enable(store, known)
    assert [each.enabled for each in known.all()] == [True]


def test_account_claimed_at_the_same_moment_is_refused(store, known, operator):
    def claim(*_request):
        claims.Claims(operator).claim(TWIN, USERS)

    class Race(claims.Claims):
        def check(self, account):
            found = super().check(account)
            if found is None:
                claim()
            return found

    with pytest.raises(exceptions.InvalidRequest, match=TWIN.name):
        enable(store, Race(operator))
    assert [each.account for each in known.all()] == [TWIN.name]


def test_storlet_managers_own_account_is_refused(operator, known):
    own = model.Account(operator.account)
    with pytest.raises(exceptions.InvalidRequest, match="own account"):
        accounts.enable(operator, known, own, USERS)


@pytest.mark.parametrize(
    "user", ["", ".r:*", "*", "*:*", "a,b", "a b", "a:b:c", "a\n", ".rlistings"]
)
def test_users_that_would_let_in_others_are_refused(store, known, user):
    with pytest.raises(exceptions.InvalidRequest):
        accounts.enable(store, known, ACCOUNT, [DEPLOYER, user])
    assert list(known.all()) == []


def test_another_account_than_was_opened_is_refused(store, known):
    with pytest.raises(exceptions.InvalidRequest, match="opened"):
        accounts.enable(store, known, OTHER, USERS)


def test_disabled_account_is_as_before_but_for_its_content(store, known):
    store.set_container("docker_images", {"X-Container-Read": "a:b"})
    enable(store, known)
    store.write("docker_images", "a.tar", b"kept")
    planned = accounts.disable(store, known, ACCOUNT, dry_run=True)
    assert accounts.disable(store, known, ACCOUNT) == planned
    assert store.account_headers()["x-account-meta-storlet-enabled"] == "False"
    assert store.container("docker_images")["x-container-read"] == "a:b"
    assert "x-container-write" not in store.container("docker_images")
    assert store.head("docker_images", "a.tar").size == 4
    assert accounts.disable(store, known, ACCOUNT) == []


def test_account_that_was_never_enabled_is_disabled_already(store, known):
    assert accounts.disable(store, known, ACCOUNT) == []


def test_damaged_claim_is_told_and_not_overwritten(store, known, operator):
    operator.set_container(claims.CONTAINER, {})
    operator.write(claims.CONTAINER, ACCOUNT.scope, b'{"schema": 1, "kind": "other"}')
    with pytest.raises(documents.Corrupt):
        enable(store, known)


def test_published_base_is_found_with_its_name(store, known, tmp_path):
    enable(store, known)
    path = tmp_path / "base.tar"
    path.write_bytes(b"base" * 1000)
    done = accounts.publish(store, str(path), "base.tar", "storlet-base:12", segment_size=3000)
    assert done.moved == 4000
    assert accounts.publish(store, str(path), "base.tar", "storlet-base:12").moved == 4000
    assert accounts.publish(store, str(path), "base.tar", "storlet-base:13").moved == 0
    store.write("docker_images", "theirs.tar", b"x")
    base, theirs = accounts.images(store.to(ACCOUNT.name, MANAGER))
    assert (base.account, base.name, base.sha256) == (ACCOUNT.name, "storlet-base:13", done.sha256)
    assert (base.object.name, base.object.size) == ("base.tar", 4000)
    assert (theirs.object.name, theirs.name, theirs.sha256) == ("theirs.tar", "", "")
    assert accounts.image(store, "base.tar") == base


def test_what_is_not_there_is_told(store, known, tmp_path):
    with pytest.raises(exceptions.NotFound):
        list(accounts.images(store))
    enable(store, known)
    with pytest.raises(exceptions.NotFound):
        accounts.image(store, "none")
    with pytest.raises(exceptions.InvalidRequest):
        accounts.publish(store, str(tmp_path / "none"), "base.tar", "base")
    with pytest.raises(exceptions.InvalidRequest):
        accounts.publish(store, __file__, "base.tar", " ")
