# SPDX-License-Identifier: Apache-2.0
"""What every test in Nova's own frame needs, to be mixed into its class."""

from nova import test

from container_stack.conf import nova as conf

from .conftest import World


class DockerTest(test.TestCase):  # type: ignore[misc]
    """Chooses our driver, in the world's own directory."""

    world: World

    def choose_driver(self, host: str = "") -> None:
        """Set the options; after ``setUp`` has begun, and before a driver is made."""
        self.flags(compute_driver="container_stack.DockerDriver")
        self.flags(host=host or self.world.host)
        conf.register(test.CONF)
        self.flags(
            group="docker",
            state_dir=str(self.world.state_dir),
            root_helper=self.world.root_helper,
        )

    def _clear_attrs(self) -> None:
        """Keep what pytest asks for after the test; Nova deletes all attributes."""
