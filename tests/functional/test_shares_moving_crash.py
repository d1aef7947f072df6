# SPDX-License-Identifier: Apache-2.0
"""The process is killed all along a move; each time the next start puts things right."""

from pathlib import Path

import pytest

from container_stack.testing import kill_steps

from . import moving_host, shares_host
from .moving_host import data, fingerprint, keys, make, place, read

samba_image = shares_host.samba_image
pair = moving_host.pair
share = moving_host.share


@pytest.mark.parametrize(("end", "every"), [("source", 9), ("target", 19)])
def test_wherever_it_is_killed_the_share_is_served_at_one_place_and_nothing_is_left(
    pair, share, end, every, tmp_path
):
    known = keys(pair, share)
    expected = fingerprint(data(pair, share))
    before = pair.things()
    said = tmp_path / "said"
    said.touch()

    def action() -> None:
        old, new = pair.services()
        moves = old.moves_to(new)
        moves.start(share, place(pair))
        moves.copy(share, "share-2")
        moves.complete(share, "share-2")
        said.write_text("moved")

    counted = {"source": pair.run, "target": pair.other}[end]
    for step in kill_steps.kills(counted, action, every=every):
        old, new = pair.recovered()
        here = [each.id for each in (*old.list(), *new.list())]
        assert here in ([share], ["share-2"]), f"killed at step {step}"
        if here == ["share-2"]:
            assert read(new.get("share-2"), "bob", known["bob"])
            where = Path(new.servers.directory(new.get("share-2").server_id), "share-2/data")
            assert fingerprint(where) == expected
            # Again, for the next one.
            new.delete("share-2")
            make(pair, share)
            known, expected = keys(pair, share), fingerprint(data(pair, share))
        else:
            assert read(old.get(share), "bob", known["bob"])
            assert fingerprint(data(pair, share)) == expected
            old.moves_to(new).cancel(share, "share-2")
        assert pair.things() == before, f"killed at step {step}"
    assert said.read_text() == "moved"
