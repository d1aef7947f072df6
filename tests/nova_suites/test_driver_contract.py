# SPDX-License-Identifier: Apache-2.0
"""Nova's own contract of drivers, over our driver and the real engine."""

from pathlib import Path
from typing import Any

import pytest
from functional.servers import disk_host
from nova import exception, objects
from nova.compute import power_state
from nova.network import model as network_model
from nova.tests.unit import utils as nova_utils
from nova.tests.unit.virt import test_virt_drivers

from container_stack.servers import spec

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
        known = [{"instance": instance, "instance_bdms": [_bdm(instance.uuid)]}]
        assert self.connection.get_all_volume_usage(self.ctxt, known) == []

    # Nova's own asks for figures of a disk that isn't there; its driver's docstring says None.
    test_block_stats = test_volumes_that_are_not_connected_have_no_figures

    def test_a_connected_volume_has_the_kernels_figures(self) -> None:
        instance, _ = self._get_running_instance()
        volumes = disk_host.Host(self.world.state_dir.parent, self.world.engine)
        self.addCleanup(volumes.executor.close)
        self.addCleanup(volumes.clean)
        volume = volumes.volume()
        info = {**volumes.disk(volume).connection, "serial": volume}
        self.connection.attach_volume(self.ctxt, info, instance, "/dev/vdb")
        before = self.connection.block_stats(instance, "vdb")
        write = ("dd", "if=/dev/zero", "of=/dev/vdb", "bs=64k", "count=3", "conv=fsync")
        container = spec.container_name(instance.uuid)
        assert self.world.engine.exec(container, write).exit_code == 0
        after = self.connection.block_stats(instance, "vdb")
        written = 3 * 64 * 1024
        assert after[3] - before[3] == written
        assert after[2] > before[2]
        # Together with the server's root.
        assert self.connection.get_diagnostics(instance)["write"] >= written
        told = self.connection.get_instance_diagnostics(instance)
        assert [each.write_bytes >= written for each in told.disk_details] == [True]
        known = [{"instance": instance, "instance_bdms": [_bdm(volume), _bdm(instance.uuid)]}]
        [usage] = self.connection.get_all_volume_usage(self.ctxt, known)
        assert usage["volume"] == volume
        assert [usage[each] for each in ("rd_req", "rd_bytes", "wr_req", "wr_bytes")] == after[:4]
        self.connection.detach_volume(self.ctxt, info, instance, "/dev/vdb")
        assert self.connection.block_stats(instance, "vdb") is None
        assert volumes.connected() == {}

    def test_live_migration(self) -> None:
        self.skipTest("containers don't migrate while they run")

    test_live_migration_abort = test_live_migration_force_complete = test_live_migration


def _bdm(volume_id: str) -> Any:
    return objects.BlockDeviceMapping(volume_id=volume_id)
