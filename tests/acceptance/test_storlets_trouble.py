# SPDX-License-Identifier: Apache-2.0
"""Images that don't work, managers that die, and two of them at once."""

import pytest

from . import process, storlet_load, storlet_sources, storlet_tenant, swift


@pytest.fixture
def red(tenant: storlet_tenant.Tenant) -> str:
    """The ID of the image that all nodes have; nothing else is left to be done."""
    return tenant.deploy("red", "RED")


def test_image_that_cannot_run_storlets_reaches_no_node(
    tenant: storlet_tenant.Tenant, red: str
) -> None:
    tenant.offer("mute", "BLUE", storlet_sources.WITHOUT_LOGGER)
    before = [node.images() for node in tenant.world.nodes]

    verified = tenant.world.try_run(
        swift.DEPLOYER, "verify", "--object", "mute.tar", *storlet_tenant.ACCOUNT
    )
    deployed = tenant.world.try_run(swift.DEPLOYER, "deploy", "mute.tar", *storlet_tenant.ACCOUNT)

    assert (verified.code, deployed.code) == (1, 1)
    assert "logger" in verified.out
    assert "logger" in deployed.err
    assert [node.images() for node in tenant.world.nodes] == before
    assert set(tenant.colors().values()) == {"RED"}


def test_image_that_breaks_on_one_node_is_taken_back_everywhere(
    tenant: storlet_tenant.Tenant, red: str
) -> None:
    tenant.offer("allergic", "BLUE", allergy="node-3")
    clients = [tenant.reader() for _ in range(3)]

    with storlet_load.running(clients) as load:
        answer = tenant.world.try_run(
            swift.DEPLOYER, "deploy", "allergic.tar", *storlet_tenant.ACCOUNT
        )

    assert answer.code == 1
    assert "node-3" in answer.err
    assert load.failures == []
    assert tenant.image == dict.fromkeys(tenant.image, red)
    assert set(tenant.colors().values()) == {"RED"}
    assert tenant.sandboxes == {name: [storlet_tenant.SANDBOX] for name in tenant.image}
    assert tenant.operate("history")[0]["Outcome"].startswith("failed")
    assert {each["State"] for each in tenant.operate("status")} == {"ok"}


def test_killed_deployment_is_finished_by_another_manager(
    tenant: storlet_tenant.Tenant, red: str
) -> None:
    tenant.offer("green", "GREEN")
    clients = [tenant.reader() for _ in range(3)]

    with storlet_load.running(clients) as load:
        with tenant.start("deploy", "green.tar") as manager:
            process.wait_for("the first node", lambda: set(tenant.image.values()) > {red})
            manager.kill()
        halfway = tenant.image
        refused = tenant.world.try_run(swift.DEPLOYER, "rollback", *storlet_tenant.ACCOUNT)
        done = tenant.operate("resume")

    assert len(set(halfway.values())) == 2, halfway
    assert refused.code == 1
    assert "resume" in refused.err
    assert tenant.image == dict.fromkeys(halfway, done["Image"])
    assert done["Image"] != red
    assert set(tenant.colors().values()) == {"GREEN"}
    assert load.failures == []
    assert tenant.sandboxes == {name: [storlet_tenant.SANDBOX] for name in halfway}


def test_second_manager_is_refused_while_the_first_one_deploys(
    tenant: storlet_tenant.Tenant, red: str
) -> None:
    tenant.offer("green", "GREEN")

    with tenant.start("deploy", "green.tar") as first:
        process.wait_for("the first node", lambda: set(tenant.image.values()) != {red})
        second = tenant.world.try_run(swift.DEPLOYER, "rollback", *storlet_tenant.ACCOUNT)
        process.wait_for("the first manager", lambda: not first.running)

    assert second.code == 1
    assert "Busy" in second.err or "another" in second.err.lower(), second.err
    assert set(tenant.colors().values()) == {"GREEN"}
    assert {each["State"] for each in tenant.operate("status")} == {"ok"}
