# SPDX-License-Identifier: Apache-2.0
"""The whole way of an account's image, by its two managers and their commands.

From an account without storlets to one whose storlet uses a Debian package that only its own image
has, on three nodes; then a second image under load, and back.
"""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from . import storlet_load, storlet_nodes, storlet_sources, storlet_tenant, storlet_world, swift

#: Clients that read and write while nodes change.
READERS, WRITERS = 2, 1


def test_both_managers_and_nobody_else_may_use_the_accounts_images(
    tenant: storlet_tenant.Tenant,
) -> None:
    world, url = tenant.world, f"{tenant.url}/docker_images"

    listed = {user.name: world.session(user).get(url).status_code for user in swift.USERS}

    assert listed == {"manager": 200, "member": 403, "stranger": 403, "deployer": 200, "chief": 200}


def test_account_that_the_runtime_would_take_for_this_one_is_not_enabled(
    tenant: storlet_tenant.Tenant,
) -> None:
    twin = f"{swift.MANAGER.account[:18]}0000"
    words = ("enable", f"--manager={swift.DEPLOYER.login}", f"--account={twin}")

    answer = tenant.world.try_run(swift.CHIEF, *words)

    assert answer.code == 1
    assert swift.MANAGER.account in answer.err


def test_account_manager_finds_the_base_image_and_its_name(tenant: storlet_tenant.Tenant) -> None:
    listed = tenant.manage("list", "-f", "json").data
    shown = tenant.manage("show", storlet_world.BASE_OBJECT, "-f", "json").data

    assert storlet_world.BASE_OBJECT in [each["Object"] for each in listed]
    assert shown["Image-Name"] == "cstest-storlet-base:latest"


def test_downloaded_image_is_what_was_published_and_is_not_fetched_twice(
    tenant: storlet_tenant.Tenant,
) -> None:
    path = tenant.directory / "base.tar"
    words = ("download", storlet_world.BASE_OBJECT, f"--output={path}")

    tenant.manage(*words)
    made = path.stat().st_mtime_ns
    tenant.manage(*words)

    head = tenant.session.head(f"{tenant.url}/docker_images/{storlet_world.BASE_OBJECT}")
    assert _sha256(path) == head.headers["X-Object-Meta-Sha256"]
    assert head.headers["X-Static-Large-Object"] == "True"
    assert path.stat().st_mtime_ns == made


def test_dockerfile_with_an_entrypoint_is_not_built(tenant: storlet_tenant.Tenant) -> None:
    context = storlet_sources.write_context(
        tenant.directory / "entry", "cstest-storlet-base:latest", "RED", 'ENTRYPOINT ["python3"]'
    )

    answer = tenant.world.try_run(swift.MANAGER, "build", str(context), "--tag=cstest-entry")

    assert answer.code == 1
    assert "ENTRYPOINT" in answer.out


def test_command_in_an_image_has_its_packages_and_a_sandboxs_means(
    tenant: storlet_tenant.Tenant,
) -> None:
    tenant.offer("red", "RED")
    script = (
        "import colorama, os;"
        "print(colorama.__name__, os.listdir('/sys/class/net'),"
        " open('/sys/fs/cgroup/memory.max').read()"
        " if os.path.exists('/sys/fs/cgroup/memory.max')"
        " else open('/sys/fs/cgroup/memory/memory.limit_in_bytes').read())"
    )

    answer = tenant.manage("run", tenant.tag("red"), "--", "python3", "-c", script)

    assert answer.out.split() == ["colorama", "['lo']", str(storlet_world.MEMORY)]


def test_image_is_looked_at_without_fetching_it(tenant: storlet_tenant.Tenant) -> None:
    red = tenant.offer("red", "RED")

    seen = tenant.manage("inspect", "red.tar", "-f", "json").data

    assert seen["Image"] == red
    assert seen["Bytes fetched"] < 100_000 < seen["Size"]


def test_all_checks_pass_with_the_accounts_own_storlet(tenant: storlet_tenant.Tenant) -> None:
    tenant.offer("red", "RED")

    checks = tenant.operate("verify", "--object", "red.tar", *tenant.trial("RED"))

    assert [each["State"] for each in checks] == ["passed"] * 12


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (swift.MEMBER, ["list"]),
        (swift.MEMBER, ["upload", "tenant/red.tar"]),
        (swift.STRANGER, ["deploy", "red.tar", *storlet_tenant.ACCOUNT]),
        (swift.DEPLOYER, ["enable", f"--manager={swift.DEPLOYER.login}", *storlet_tenant.ACCOUNT]),
    ],
    ids=lambda value: value.name if isinstance(value, swift.User) else value[0],
)
def test_user_without_rights_learns_that_he_has_none(
    tenant: storlet_tenant.Tenant, user: swift.User, words: list[str]
) -> None:
    tenant.offer("red", "RED")

    answer = tenant.world.try_run(user, *words)

    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith("Swift refuses this user"), answer.err


@pytest.fixture(scope="module")
def first(tenant: storlet_tenant.Tenant) -> storlet_load.Load:
    """What clients saw of the account's first image, after the default one."""
    tenant.offer("red", "RED")
    ask = tenant.asker()
    for _ in range(20):
        assert ask() == "none"
    with storlet_load.running([tenant.asker() for _ in range(3)]) as load:
        tenant.operate("deploy", "red.tar", *tenant.trial("RED"))
    return load


def test_first_image_takes_the_default_ones_place_under_load(first: storlet_load.Load) -> None:
    assert first.failures == []
    assert set(first.total) == {"none", "RED"}


def test_storlets_run_in_the_deployed_image_on_all_nodes_within_limits(
    tenant: storlet_tenant.Tenant, first: storlet_load.Load
) -> None:
    red = tenant.offered["red"]
    assert tenant.image == {node.name: red for node in tenant.world.nodes}
    assert set(tenant.colors().values()) == {"RED"}
    assert tenant.writer()() == "RED"
    for node in tenant.world.nodes:
        [sandbox] = [each for each in node.containers() if each["Image"] == red]
        limits = sandbox["HostConfig"]
        assert (limits["Memory"], limits["PidsLimit"], limits["CpuQuota"]) == (
            storlet_world.MEMORY,
            storlet_world.PIDS,
            storlet_world.QUOTA,
        )
        assert sandbox["NetworkSettings"]["Networks"].keys() <= {"none"}


def test_deploying_again_and_dry_runs_change_nothing(
    tenant: storlet_tenant.Tenant, first: storlet_load.Load
) -> None:
    tenant.offer("green", "GREEN")
    before = [_state(node) for node in tenant.world.nodes]

    again = tenant.operate("deploy", "red.tar")
    tried = tenant.operate("deploy", "green.tar", "--dry-run")

    assert [_state(node) for node in tenant.world.nodes] == before
    assert (again["Changed"], tried["Changed"]) == (False, False)
    # What all nodes have of it isn't sent: the base, and the package.
    assert tried["Nodes"] == storlet_world.COUNT
    assert tried["Bytes"] < storlet_world.COUNT * 64 * 1024


@dataclasses.dataclass
class Update:
    """What clients saw of an update and its rollback, and nodes in between and after them."""

    load: storlet_load.Load
    updated: dict[str, str | None]
    restored: dict[str, str | None]


@pytest.fixture(scope="module")
def update(tenant: storlet_tenant.Tenant, first: storlet_load.Load) -> Update:
    """From red to green and back, while clients read and write."""
    clients = [tenant.reader() for _ in range(READERS)] + [tenant.writer() for _ in range(WRITERS)]
    with storlet_load.running(clients) as load:
        tenant.deploy("green", "GREEN")
        updated = tenant.colors()
        tenant.operate("rollback", "--note=too green")
        restored = tenant.colors()
    return Update(load, updated, restored)


def test_no_request_fails_while_all_nodes_change(
    tenant: storlet_tenant.Tenant, update: Update
) -> None:
    assert update.load.failures == []
    assert set(update.load.total) == {"RED", "GREEN"}
    assert set(update.updated.values()) == {"GREEN"}
    assert set(update.restored.values()) == {"RED"}
    assert tenant.sandboxes == {name: [storlet_tenant.SANDBOX] for name in tenant.image}


def test_history_tells_who_deployed_what(tenant: storlet_tenant.Tenant, update: Update) -> None:
    rollback, green, red, *_others = tenant.operate("history")

    assert [each["Object"] for each in (rollback, green, red)] == [
        "red.tar",
        "green.tar",
        "red.tar",
    ]
    assert (rollback["Restores"], rollback["Note"]) == (red["Version"], "too green")
    assert {each["Who"] for each in (rollback, green, red)} == {swift.DEPLOYER.login}
    report = tenant.operate("history", "--report", str(green["Version"]))
    assert {each["State"] for each in report} <= {"passed", "skipped"}
    assert {each["State"] for each in tenant.operate("status")} == {"ok"}


def test_old_images_go_and_used_ones_stay(tenant: storlet_tenant.Tenant, update: Update) -> None:
    blue = tenant.deploy("blue", "BLUE")

    tenant.operate("gc", "--keep=1")

    # The one before the current one stays, to be gone back to.
    for node in tenant.world.nodes:
        assert set(tenant.offered.values()) & node.images() == {blue, tenant.offered["red"]}
    assert set(tenant.colors().values()) == {"BLUE"}


def _state(node: storlet_nodes.Node) -> object:
    return node.images(), node.tags(), [each["Id"] for each in node.containers()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
