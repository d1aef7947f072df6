# SPDX-License-Identifier: Apache-2.0
"""All twelve checks of an account's image, against reading it and bringing it into an engine.

The image runs a storlet of its own in the end, under limits, by storlets' own gateway.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness, storlets
from container_stack.drivers import storlet_runtime
from container_stack.host import containers, images
from container_stack.storlets import model
from container_stack.storlets.node import probe
from container_stack.storlets.verification import base, trial, verify

ROUNDS = 3
#: Seconds that somebody who waits for it may have to wait.
LIMIT = 5.0


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    engine = containers.Engine()
    own = images.Images(engine)
    with (
        storlets.storlet_host.prepared(),
        storlets.storlet_host.loaded(engine),
        storlets.place() as directory,
    ):
        made = storlets.image(directory / "image.tar")
        found = own.find(storlets.storlet_host.BASE)
        assert found is not None
        verifier = verify.Verifier(
            own,
            engine,
            storlet_runtime.GatewayRuntime(user=storlets.user()),
            storlets.settings(directory),
            base.Base.of(found),
        )
        tried = _trial(directory)
        account = model.Account(storlets.ACCOUNT)
        ours, floor = harness.medians(
            1 if harness.smoke else ROUNDS,
            lambda: storlets.check(verifier.verify(str(made.path), account, trial=tried)),
            lambda: _load(own, made),
        )
    engine.close()
    detail = f"{ours:.2f} s, of which the engine takes {floor:.2f} s for loading it"
    yield harness.Claim("verify 200 MiB / 5 s", ours / LIMIT, 1, True, detail)


def _load(own: images.Images, made: storlets.Image) -> None:
    with made.open() as archive:
        [loaded] = own.load(archive.stream())
    own.remove(loaded.id)


def _trial(directory: Path) -> trial.Trial:
    """Return a storlet of the account's own: it changes nothing."""
    (directory / probe.FILE).write_bytes(probe.SOURCE)
    (directory / "object").write_bytes(b"what goes in comes out" * 1000)
    return trial.Trial(
        file=str(directory / probe.FILE),
        main=probe.MAIN,
        input=str(directory / "object"),
        output=str(directory / "object"),
    )
