# SPDX-License-Identifier: Apache-2.0
"""Which drivers a daemon has; the original only told its own command line."""

from collections.abc import Callable, Mapping

import falcon

from container_stack import exceptions
from container_stack.drivers.osd import answers, body, forms
from container_stack.volumes import backend, model, service

#: Makes a driver of a name and settings, and has it served.
Add = Callable[[str, Mapping[str, str]], None]


class Drivers:
    """/v1/drivers

    :param services: by the drivers' names; may come to have more.
    :param backends: what each driver's backend is called, where that isn't its own name.
    """

    def __init__(
        self,
        services: Mapping[str, service.VolumeService],
        backends: Mapping[str, str],
        add: Add | None,
    ) -> None:
        self._services = services
        self._backends = backends
        self._add = add

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the drivers that are served, with what they can do."""
        answers.put(response, [self._driver(name) for name in sorted(self._services)])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Add a driver until the daemon is restarted."""
        fields = body.load(request.bounded_stream.read())
        name, settings = fields.text("name"), fields.labels("options")
        error = ""
        try:
            self._make(name, settings)
        except exceptions.ContainerStackError as exc:
            error = str(exc)
        answers.put(response, {"error": error})

    def _make(self, name: str, settings: Mapping[str, str]) -> None:
        if self._add is None:
            raise exceptions.NotSupported("Operation not supported")
        if model.check_name(name) in self._services:
            raise exceptions.AlreadyExists(f"There is a driver {name} already.")
        self._add(name, settings)

    def _driver(self, name: str) -> forms.Json:
        made = self._services[name].backend
        return {
            "name": name,
            "backend": self._backends.get(name, name),
            "type": "block" if isinstance(made, backend.BlockBackend) else "file",
            "filesystems": list(made.filesystems),
            "shared": made.shared,
            "limits": made.limits,
            "snapshots": isinstance(made, backend.Snapshots),
            "grow": isinstance(made, backend.Growing),
            "restore": isinstance(made, backend.Restoring),
            "stats": isinstance(made, backend.Counting),
        }
