# SPDX-License-Identifier: Apache-2.0
"""What can be asked of one driver's volumes; methods are falcon's ``on_get`` and so on.

What a driver refuses is told with status 200 and an "error", as it always was. Status 400 means
that the request itself can't be read, or that figures can't be had.
"""

import dataclasses
from collections.abc import Callable

import falcon

from container_stack import exceptions
from container_stack.drivers.osd import answers, body, forms
from container_stack.volumes import model, service

#: What the original says where there is nothing to delete.
_GONE = "Key not found"
#: What its clients call a file system that they leave to the driver.
_NONE = "none"


class Resource:
    """One path.

    :param form: in which answers are put, unless a request's own words ask for the later one.
    """

    def __init__(self, volumes: service.VolumeService, form: forms.Form, later: forms.Form) -> None:
        self._service = volumes
        self._form = form
        self._later = later

    def _read(self, request: falcon.Request) -> tuple[body.Fields, forms.Form]:
        fields = body.load(request.bounded_stream.read())
        return fields, self._later if body.speaks_later(fields) else self._form

    def _list(self, response: falcon.Response, query: model.Query | None) -> None:
        found = self._service.list(query) if query is not None else []
        answers.put_list(response, map(self._form.volume, found))


class Volumes(Resource):
    """/v1/volumes"""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Create one."""
        fields, form = self._read(request)
        wanted = body.create(fields)
        answers.put(response, _made(form.created, lambda: self._create(wanted)))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List those that all of Name, Label, ConfigLabel and VolumeID fit."""
        self._list(response, _query(request))

    def _create(self, wanted: body.Create) -> model.Volume:
        if wanted.spec is None:
            raise exceptions.InvalidRequest("Invalid argument: the request has no spec.")
        spec = wanted.spec
        if spec.filesystem == _NONE and _NONE not in self._service.backend.filesystems:
            spec = dataclasses.replace(spec, filesystem="")
        return self._service.create(wanted.name, spec, labels=wanted.labels, source=wanted.source)


class Volume(Resource):
    """/v1/volumes/{id}"""

    def on_get(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Return a list of one, or an empty one."""
        try:
            found = [self._service.get(model.check_id(volume_id))]
        except exceptions.NotFound:
            found = []
        answers.put(response, [self._form.volume(each) for each in found])

    def on_put(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Change its labels, size or schedule; then format, attach and mount it, in this order."""
        fields, form = self._read(request)
        change = body.change(fields)
        try:
            done, volume = self._change(model.check_id(volume_id), change)
        except exceptions.ContainerStackError as exc:
            answers.put(response, form.changed(change, None, str(exc)))
        else:
            answers.put(response, form.changed(done, volume, ""))

    def on_delete(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Delete it."""
        error = ""
        try:
            self._service.delete(model.check_id(volume_id))
        except exceptions.NotFound:
            error = _GONE
        except exceptions.ContainerStackError as exc:
            error = str(exc)
        answers.put(response, self._form.done(error))

    def _change(self, volume_id: str, change: body.Change) -> tuple[body.Change, model.Volume]:
        if not {change.format, change.attach, change.mount} <= {0, body.OFF, body.ON}:
            raise exceptions.InvalidRequest("Invalid argument: actions are 0, 1 or 2.")
        if change.format == body.OFF:
            raise exceptions.InvalidRequest("Invalid argument: a format can't be taken back.")
        self._describe(volume_id, change)
        device, path = change.device_path, change.mount_path
        if change.format == body.ON:
            self._service.format(volume_id)
        if change.attach == body.ON:
            device = self._service.attach(volume_id)
        elif change.attach == body.OFF:
            self._service.detach(volume_id)
        if change.mount == body.ON:
            path = self._service.mount(volume_id, path)
        elif change.mount == body.OFF:
            self._unmount(volume_id, path)
        done = dataclasses.replace(change, device_path=device, mount_path=path)
        return done, self._service.get(volume_id)

    def _unmount(self, volume_id: str, path: str) -> None:
        """Unmount it; to the service, that is done where it isn't mounted, to the original not."""
        before = self._service.uses(volume_id)
        self._service.unmount(volume_id, path)
        if self._service.uses(volume_id) == before:
            raise exceptions.InvalidRequest(f"Device {volume_id} not mounted")

    def _describe(self, volume_id: str, change: body.Change) -> None:
        now = self._service.get(volume_id)
        if change.labels:
            self._service.set_labels(volume_id, change.labels)
        if change.size is not None and change.size != now.spec.size:
            self._service.grow(volume_id, change.size)
        interval = now.spec.snapshot_interval if change.interval is None else change.interval
        keep = now.spec.snapshot_keep if change.keep is None else change.keep
        if (interval, keep) != (now.spec.snapshot_interval, now.spec.snapshot_keep):
            self._service.set_schedule(volume_id, interval, keep)


class Snapshots(Resource):
    """/v1/snapshot"""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take one."""
        fields, form = self._read(request)
        wanted = body.snap(fields)
        answers.put(response, _made(form.snapshotted, lambda: self._take(wanted)))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List those of the volumes VolumeID, or all, that have Label (or ConfigLabel)."""
        query = _query(request)
        if query is not None:
            labels = {**query.config_labels, **query.labels}
            query = dataclasses.replace(
                query, ids=None, parents=query.ids or (), labels=labels, config_labels={}
            )
        self._list(response, query)

    def _take(self, wanted: body.Snap) -> model.Volume:
        return self._service.snapshot(
            model.check_id(wanted.volume_id),
            wanted.name,
            labels=wanted.labels,
            read_only=wanted.read_only,
        )


class Restore(Resource):
    """/v1/snapshot/restore/{id}"""

    def on_post(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Give a volume the content of its snapshot SnapID."""
        snapshot = request.get_param("SnapID")
        if snapshot is None:
            raise body.BadBody("Missing SnapID param")
        error = ""
        try:
            self._service.restore(model.check_id(volume_id), model.check_id(snapshot))
        except exceptions.ContainerStackError as exc:
            error = str(exc)
        answers.put(response, self._form.done(error))


class Stats(Resource):
    """/v1/volumes/stats/{id}"""

    def on_get(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Return what its device did."""
        with answers.failing("Failed to get stats"):
            found = self._service.stats(model.check_id(volume_id))
        answers.put(response, self._form.stats(found))


class Alerts(Resource):
    """/v1/volumes/alerts/{id}"""

    def on_get(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Return what an operator should know of."""
        with answers.failing("Failed to get alerts"):
            found = self._service.alerts(model.check_id(volume_id))
        answers.put(response, forms.alerts(found))


class UsedSize(Resource):
    """/v1/osd-volumes/usedsize/{id}"""

    def on_get(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Return the bytes that its data take, as a bare number."""
        with answers.failing("Failed to get used size"):
            found = self._service.usage(model.check_id(volume_id))
        answers.put(response, found.used)


class Usage(Resource):
    """/v1/volumes/usage/{id}; not in the original"""

    def on_get(self, request: falcon.Request, response: falcon.Response, volume_id: str) -> None:
        """Return the bytes that its data take, and may take."""
        with answers.failing("Failed to get usage"):
            found = self._service.usage(model.check_id(volume_id))
        answers.put(response, {"used": found.used, "limit": found.limit})


def _made(form: Callable[[str, str], forms.Json], make: Callable[[], model.Volume]) -> forms.Json:
    try:
        return form(make().id, "")
    except exceptions.ContainerStackError as exc:
        return form("", str(exc))


def _query(request: falcon.Request) -> model.Query | None:
    """Return what is asked for, or None where nothing can fit it.

    :raises BadBody: a parameter can't be read.
    """
    name = request.get_param("Name") or ""
    try:
        name = name and model.check_name(name)
    except exceptions.InvalidRequest:
        return None
    wanted = request.get_param_as_list("VolumeID")
    ids = None if wanted is None else _ids(wanted)
    if ids == ():
        return None
    after = request.get_param("After") or ""
    return model.Query(
        name=name,
        ids=ids,
        labels=_labels(request, "Label"),
        config_labels=_labels(request, "ConfigLabel"),
        after=after and model.check_name(after),
        limit=whole(request, "Limit", 0),
    )


def whole(request: falcon.Request, name: str, default: int) -> int:
    """Return a parameter that is a whole number.

    :raises BadBody: it isn't.
    """
    text = request.get_param(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise body.BadBody(f"{name} is no whole number.")
    return int(text)


def volume_id(request: falcon.Request) -> str:
    """Return the parameter VolumeID, or "".

    :raises NotFound: it can't be one.
    """
    text = request.get_param("VolumeID")
    return model.check_id(text) if text else ""


def _ids(wanted: list[str]) -> tuple[str, ...]:
    found = []
    for each in wanted:
        try:
            found.append(model.check_id(each))
        except exceptions.NotFound:
            continue
    return tuple(found)


def _labels(request: falcon.Request, name: str) -> dict[str, str]:
    text = request.get_param(name)
    return dict(model.check_labels(body.labels(text))) if text else {}
