# SPDX-License-Identifier: Apache-2.0
"""Simulated arrays below Glance, and what is on them, seen without the store's own eyes."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from container_stack.imagestore import edf
from container_stack.testing.edf import simulator

from . import process

#: Nobody may read these anywhere; the second is no array's.
PASSWORD, WRONG_PASSWORD = "cstest-oyster-5719", "cstest-mussel-8264"


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """An array, and the options of a Glance store on it."""

    simulator: simulator.Simulator
    options: Mapping[str, object]

    def images(self) -> list[str]:
        """Return the names of the app instances, of finished images and all others."""
        return sorted(each.name for each in edf.Client(self.endpoint).app_instances())

    def wait_begun(self, image: str) -> None:
        """Wait until there is something of an image."""
        process.wait_for(f"image {image}", lambda: f"OS-IMAGE-{image}" in self.images())

    def wait_empty(self, image: str) -> None:
        """Wait until nothing is left of an image."""
        process.wait_for(
            f"the end of {image}",
            lambda: not any(image in each for each in self.images()),
            timeout=20,
        )

    def noted(self) -> list[str]:
        """Return the ids of the images of which the journal tells that they are under way."""
        directory = Path(str(self.options["datera_state_dir"]))
        return [path.name for path in directory.glob("*/uploads/*")]

    @property
    def endpoint(self) -> edf.Endpoint:
        """The array, for a client of the tests' own."""
        return edf.Endpoint(**self.simulator.endpoint_kwargs)


@contextlib.contextmanager
def running(
    directory: Path, target: str, attach: str, sw_version: str, **options: object
) -> Iterator[Array]:
    """Run an array.

    :param target: what exports its volumes.
    :param attach: how Glance reaches them.
    """
    with simulator.Simulator(
        directory / "array", target=target, sw_version=sw_version, password=PASSWORD
    ) as made:
        endpoint = made.endpoint_kwargs
        yield Array(
            made,
            {
                "datera_san_ip": endpoint["address"],
                "datera_san_port": endpoint["port"],
                "datera_san_login": endpoint["login"],
                "datera_san_password": endpoint["password"],
                "datera_ca_file": endpoint["ca_file"],
                "datera_attach": attach,
                "datera_simulator_dir": made.options.directory,
                "datera_state_dir": directory / "state",
                "datera_retry_attempts": 2,
                "datera_retry_interval": 0.1,
                **options,
            },
        )
