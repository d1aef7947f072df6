# SPDX-License-Identifier: Apache-2.0
"""App instances and what lies below them."""

from typing import Any

from falcon import Request, Response

from container_stack.testing.edf import bodies, calls, errors


class AppInstances(calls.Resource):
    """The tenant's app instances."""

    def on_get(self, req: Request, resp: Response, version: str) -> None:
        mine = self.array.instances(calls.call(req).tenant)
        self.page(req, resp, mine, self.shapes.app_instance)

    def on_post(self, req: Request, resp: Response, version: str) -> None:
        asked = calls.call(req)
        resp.media = self.shapes.app_instance(self.array.create(asked.tenant, asked.body))


class AppInstance(calls.Resource):
    """One of them, by name or UUID."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        resp.media = self.shapes.app_instance(self.instance(req, name))

    def on_put(self, req: Request, resp: Response, version: str, name: str) -> None:
        self.array.change(self.instance(req, name), calls.call(req).body)
        resp.media = self.shapes.app_instance(self.instance(req, name))

    def on_delete(self, req: Request, resp: Response, version: str, name: str) -> None:
        found = self.instance(req, name)
        resp.media = self.shapes.app_instance(found)
        self.array.delete(found)


class Metadata(calls.Resource):
    """What is noted at an app instance, before software 3.3; a change leaves other keys alone."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        self._refuse(req, self.array.settings.policies)
        resp.media = self.instance(req, name)["metadata"]

    def on_put(self, req: Request, resp: Response, version: str, name: str) -> None:
        self._refuse(req, self.array.settings.policies)
        resp.media = self.array.note(self.instance(req, name), calls.call(req).body)

    def _refuse(self, req: Request, elsewhere: bool) -> None:
        if elsewhere:
            raise errors.not_found(req.path)


class EcosystemData(Metadata):
    """The same from software 3.3 on."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        self._refuse(req, not self.array.settings.policies)
        resp.media = self._shape(self.instance(req, name))

    def on_put(self, req: Request, resp: Response, version: str, name: str) -> None:
        self._refuse(req, not self.array.settings.policies)
        found = self.instance(req, name)
        self.array.note(found, bodies.check(calls.call(req).body, {"data": dict}, "data")["data"])
        resp.media = self._shape(found)

    def _shape(self, instance: calls.Record) -> dict[str, Any]:
        return {"name": instance["name"], "data": instance["metadata"]}


class StorageInstances(calls.Resource):
    """An app instance's storage instances."""

    def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        shape = self.shapes.storage_instance(self.instance(req, name))
        self.page(req, resp, [shape], dict)


class StorageInstance(calls.Resource):
    """One of them: a target."""

    def on_get(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        resp.media = self.shapes.storage_instance(self.storage(req, name, storage))

    def on_put(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        found = self.storage(req, name, storage)
        self.access.set_storage(found, calls.call(req).body)
        resp.media = self.shapes.storage_instance(found)


class AclPolicy(calls.Resource):
    """Who may log in to a target."""

    def on_get(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        resp.media = self.shapes.acl(self.storage(req, name, storage))

    def on_put(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        found = self.storage(req, name, storage)
        self.access.set_acl(found, calls.call(req).body)
        resp.media = self.shapes.acl(found)


class Auth(calls.Resource):
    """What initiators must know."""

    def on_get(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        resp.media = self.shapes.auth(self.storage(req, name, storage))

    def on_put(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        found = self.storage(req, name, storage)
        self.access.set_auth(found, calls.call(req).body)
        resp.media = self.shapes.auth(found)


class Volumes(calls.Resource):
    """A storage instance's volumes."""

    def on_get(self, req: Request, resp: Response, version: str, name: str, storage: str) -> None:
        self.page(req, resp, [self.shapes.volume(self.storage(req, name, storage))], dict)


class Volume(calls.Resource):
    """One volume."""

    def on_get(
        self, req: Request, resp: Response, version: str, name: str, storage: str, volume: str
    ) -> None:
        resp.media = self.shapes.volume(self.volume(req, name, storage, volume))

    def on_put(
        self, req: Request, resp: Response, version: str, name: str, storage: str, volume: str
    ) -> None:
        found = self.volume(req, name, storage, volume)
        self.volumes.change(found, calls.call(req).body)
        resp.media = self.shapes.volume(found)


class Snapshots(calls.Resource):
    """A volume's snapshots."""

    def on_get(
        self, req: Request, resp: Response, version: str, name: str, storage: str, volume: str
    ) -> None:
        found = self.volume(req, name, storage, volume)
        taken = list(found["storage"]["volume"]["snapshots"])
        self.page(req, resp, [self.shapes.snapshot(found, each) for each in taken], dict)

    def on_post(
        self, req: Request, resp: Response, version: str, name: str, storage: str, volume: str
    ) -> None:
        found = self.volume(req, name, storage, volume)
        timestamp = self.volumes.take_snapshot(found, calls.call(req).body)
        resp.media = self.shapes.snapshot(found, timestamp)


class Snapshot(calls.Resource):
    """One snapshot, by its timestamp."""

    def on_get(self, req: Request, resp: Response, timestamp: str, **place: str) -> None:
        resp.media = self._shape(req, timestamp, place)

    def on_delete(self, req: Request, resp: Response, timestamp: str, **place: str) -> None:
        resp.media = self._shape(req, timestamp, place)
        self.volumes.drop_snapshot(self._volume(req, place), timestamp)

    def _shape(self, req: Request, timestamp: str, place: dict[str, str]) -> dict[str, Any]:
        found = self._volume(req, place)
        if timestamp not in found["storage"]["volume"]["snapshots"]:
            raise errors.not_found(req.path)
        return self.shapes.snapshot(found, timestamp)

    def _volume(self, req: Request, place: dict[str, str]) -> calls.Record:
        return self.volume(req, place["name"], place["storage"], place["volume"])
