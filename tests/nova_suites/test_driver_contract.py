# SPDX-License-Identifier: Apache-2.0
"""Nova's own contract of drivers, over our driver and the real engine."""

from pathlib import Path
from typing import Any

import pytest
from nova import exception, objects
from nova.compute import power_state
from nova.network import model as network_model
from nova.tests.unit import utils as nova_utils
from nova.tests.unit.virt import test_virt_drivers

from .docker_test import DockerTest


class TestDriverContract(test_virt_drivers._VirtDriverTestCase, DockerTest):  # type: ignore[misc]
    """Each test boots a server of its own."""

    REQUIRES_LOCKING = True
    driver_module = "nova.virt.container_stack.DockerDriver"

    def setUp(self) -> None:
        self.addCleanup(self._end)
        super().setUp()
        self.connection.init_host(self.world.host)

    def flags(self, **values: Any) -> None:
        super().flags(**values)
        if "compute_driver" not in values and not getattr(self, "_chosen", False):
            self._chosen = True
            self.choose_driver()

    def _end(self) -> None:
        for each in self.world.everything():
            server_id = each.labels["container_stack.id"]
            instance = objects.Instance(uuid=server_id, task_state=None, vm_state=None)
            self.connection.destroy(self.ctxt, instance, network_model.NetworkInfo())
        # No Glance is there to delete them.
        begun = self.connection._parts.glance.begun
        for image_id in begun._records.all():
            begun.forget(image_id)
        self.connection.cleanup_host(self.world.host)

    def _get_running_instance(self, obj: bool = True) -> Any:
        plain = nova_utils.get_test_network_info

        def leading_nowhere(count: int = 1) -> Any:
            found = plain(count)
            for vif in found:
                vif["type"] = "noop"
            return found

        self.stub_out("nova.tests.unit.utils.get_test_network_info", leading_nowhere)
        return super()._get_running_instance(obj)

    # Nova's stand-ins for volumes are none, which a driver has to notice.

    def test_attach_detach_volume(self) -> None:
        self._refuses_what_is_no_volume(running=True)

    def test_attach_detach_different_power_states(self) -> None:
        self._refuses_what_is_no_volume(running=False)

    def _refuses_what_is_no_volume(self, *, running: bool) -> None:
        instance, _ = self._get_running_instance()
        if not running:
            self.connection.power_off(instance)
        connection_info = {"driver_volume_type": "fake", "serial": instance.uuid, "data": {}}
        with pytest.raises(exception.NovaException, match="fake"):
            self.connection.attach_volume(None, connection_info, instance, "/dev/vdb")
        assert self.connection.detach_volume(None, connection_info, instance, "/dev/vdb") is None

    def test_get_volume_connector(self) -> None:
        self._tells_an_initiator_where_there_is_one()

    def test_get_volume_connector_storage_ip(self) -> None:
        self.flags(my_block_storage_ip="192.0.2.77")
        assert self._tells_an_initiator_where_there_is_one()["ip"] == "192.0.2.77"

    def _tells_an_initiator_where_there_is_one(self) -> Any:
        told = self.connection.get_volume_connector({"id": "fake", "uuid": "fake"})
        assert {"ip", "host"} <= told.keys()
        assert ("initiator" in told) == Path("/etc/iscsi/initiatorname.iscsi").exists()
        return told

    def test_swap_volume(self) -> None:
        instance, _ = self._get_running_instance()
        with pytest.raises(exception.NovaException, match="detach it, let the volume service"):
            self.connection.swap_volume(None, {}, {}, instance, "/dev/vdb", 0)

    def test_suspend(self) -> None:
        instance, _ = self._get_running_instance()
        with pytest.raises(exception.InstanceFaultRollback) as refused:
            self.connection.suspend(self.ctxt, instance)
        assert "pause the server" in str(refused.value.inner_exception)
        assert self.connection.get_info(instance).state == power_state.RUNNING

    test_resume_suspended_instance = test_suspend

    def test_a_server_without_an_image_is_refused_before_its_volume_is_made(self) -> None:
        instance, _ = self._get_running_instance()
        self.connection.prepare_for_spawn(instance)
        instance.image_ref = ""
        with pytest.raises(exception.InstanceUnacceptable, match="boot an image and attach"):
            self.connection.prepare_for_spawn(instance)

    def test_volumes_that_are_not_connected_have_no_figures(self) -> None:
        instance, _ = self._get_running_instance()
        assert self.connection.block_stats(instance, "vdb") is None
        bdm = objects.BlockDeviceMapping(volume_id=instance.uuid)
        known = [{"instance": instance, "instance_bdms": [bdm]}]
        assert self.connection.get_all_volume_usage(self.ctxt, known) == []

    # Nova's own asks for figures of a disk that isn't there; its driver's docstring says None.
    test_block_stats = test_volumes_that_are_not_connected_have_no_figures

    def test_live_migration(self) -> None:
        self.skipTest("containers don't migrate while they run")

    test_live_migration_abort = test_live_migration_force_complete = test_live_migration
