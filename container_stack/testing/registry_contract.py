# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.volumes.registry.Registry`.

A registry joins with one fixture, a function that opens one that is empty at first; each call
stands for another host that opens the same::

    class TestMine(registry_contract.RegistryContract):
        @pytest.fixture
        def open_registry(self, tmp_path):
            return lambda: mine.Registry(tmp_path)
"""

import dataclasses
import datetime
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.testing import (
    registry_happenings_contract,
    registry_owners_contract,
    registry_world,
)
from container_stack.testing.registry_world import MOMENT, ODD, volume
from container_stack.volumes import model, registry

_ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


class RegistryContract(
    registry_owners_contract.OwnersContract,
    registry_happenings_contract.HappeningsContract,
):
    """What every registry must do."""

    @pytest.mark.parametrize("make", [volume, registry_world.full])
    def test_volume_comes_back_as_it_was_to_every_host(
        self,
        here: registry.Registry,
        there: registry.Registry,
        make: Callable[[], model.Volume],
    ) -> None:
        made = make()
        here.add(made)
        for each in (here, there):
            assert each.get(made.id) == made == each.find("loop", made.name)
            assert each.list("loop") == [made]
            assert each.get(made.id).is_snapshot is bool(made.source.parent)

    def test_times_are_kept_to_the_microsecond_and_returned_in_utc(
        self, here: registry.Registry
    ) -> None:
        made = volume(created_at=MOMENT.astimezone(_ZONE))
        here.add(made)
        found = here.get(made.id).created_at
        assert found == MOMENT
        assert found.utcoffset() == datetime.timedelta(0)

    def test_taken_ids_and_names_are_refused_and_nothing_is_changed(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        made = volume(labels={"a": "1"})
        here.add(made)
        same_name, same_id = volume(), volume("other", id=made.id)
        for taken in (same_name, same_id, made):
            with pytest.raises(exceptions.AlreadyExists):
                there.add(taken)
        assert here.list("loop") == [made]

    def test_names_are_unique_in_a_driver_and_their_case_counts(
        self, here: registry.Registry
    ) -> None:
        volumes = [volume("data"), volume("Data"), volume("data", "btrfs")]
        for each in volumes:
            here.add(each)
        for each in volumes:
            assert here.find(each.driver, each.name) == each
        assert [each.name for each in here.list("loop")] == ["Data", "data"]

    def test_what_is_not_there_is_not_found(self, here: registry.Registry) -> None:
        here.add(volume())
        for absent in (str(uuid.uuid4()), "", "x' OR 'a' = 'a", "%"):
            asks: tuple[Callable[[], object], ...] = (
                lambda: here.get(absent),  # noqa: B023
                lambda: here.find("loop", absent),  # noqa: B023
                lambda: here.find(absent, "data"),  # noqa: B023
                lambda: here.update(absent, usage=1),  # noqa: B023
                lambda: here.claim(absent, "n1"),  # noqa: B023
            )
            for ask in asks:
                with pytest.raises(exceptions.NotFound):
                    ask()
        assert here.list("nfs") == []

    def test_only_named_fields_are_changed(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        for made in (volume(), registry_world.full()):
            here.add(made)
            wanted: dict[str, Any] = {
                "name": made.name + "2",
                "spec": dataclasses.replace(made.spec, size=5, labels={"x": "y"}),
                "labels": {"b": "ß"},
                "source": model.Source(seed="elsewhere"),
                "read_only": not made.read_only,
                "state": model.State.DETACHED,
                "status": model.Status.NOT_PRESENT,
                "node_id": "n9",
                "device_path": "/dev/sdx",
                "mount_paths": ("/c",),
                "format": "ext4",
                "usage": 17,
                "last_scan": None,
                "error": "no",
            }
            for name, value in wanted.items():
                made = dataclasses.replace(made, **{name: value})
                assert here.update(made.id, **{name: value}) == made
                assert there.get(made.id) == made
            assert here.update(made.id) == made

    def test_what_a_volume_has_not_or_never_changes_cannot_be_changed(
        self, here: registry.Registry
    ) -> None:
        made = volume()
        here.add(made)
        for name in ("id", "driver", "colour", "parent"):
            with pytest.raises(TypeError):
                here.update(made.id, **{name: "x"})  # type: ignore[arg-type]
        assert here.get(made.id) == made

    def test_new_name_that_is_taken_is_refused(self, here: registry.Registry) -> None:
        one, two = volume("one"), volume("two")
        here.add(one)
        here.add(two)
        with pytest.raises(exceptions.AlreadyExists):
            here.update(two.id, name="one")
        assert here.list("loop") == [one, two]

    def test_removed_volume_is_forgotten_with_what_belonged_to_it(
        self, here: registry.Registry
    ) -> None:
        gone, stays = volume("gone"), volume("stays")
        for each in (gone, stays):
            here.add(each)
            here.raise_alert(each.id, model.Severity.ALARM, "full")
        here.add_samples([model.Sample(each.id, MOMENT, 3) for each in (gone, stays)])
        here.remove(gone.id)
        here.remove(gone.id)
        with pytest.raises(exceptions.NotFound):
            here.get(gone.id)
        assert [each.name for each in here.list("loop")] == ["stays"]
        assert [each.volume_id for each in here.alerts()] == [stays.id]
        assert here.samples(gone.id) == []
        here.add(dataclasses.replace(gone, id=str(uuid.uuid4())))

    def test_volumes_are_listed_a_page_at_a_time_by_name(self, here: registry.Registry) -> None:
        names = ["B", "a", "a-1", "a.1", "a_1", "a1", "b", "c", "c0"]
        for name in random.Random(3).sample(names, len(names)):
            here.add(volume(name))
        assert [each.name for each in here.list("loop")] == sorted(names)
        found: list[str] = []
        while page := here.list("loop", model.Query(after=found[-1] if found else "", limit=4)):
            found += [each.name for each in page]
        assert found == sorted(names)

    @pytest.mark.parametrize("seed", range(3))
    def test_queries_find_what_they_should(self, here: registry.Registry, seed: int) -> None:
        chance = random.Random(seed)
        volumes = _some_volumes(chance)
        for each in volumes:
            here.add(each)
        volumes.sort(key=lambda each: each.name)
        found = 0
        for _ in range(200):
            query = _some_query(chance, volumes)
            wanted = [each for each in volumes if _wants(query, each)]
            assert here.list("loop", query) == wanted[: query.limit or None], query
            found += len(wanted)
        assert found > 100


def _some_labels(chance: random.Random) -> dict[str, str]:
    return {chance.choice(("a", "A", *ODD[:6])): chance.choice(("b", "B", *ODD)) for _ in range(3)}


def _some_volumes(chance: random.Random) -> list[model.Volume]:
    made = [volume("one")]
    for index in range(40):
        parent = chance.choice(["", made[0].id, made[-1].id])
        made.append(
            volume(
                f"{chance.choice('aAzZ')}{index}",
                labels=_some_labels(chance),
                spec=model.Spec(labels=_some_labels(chance)),
                source=model.Source(parent=parent),
                node_id=chance.choice(("", "n1")),
                attached_on=chance.choice(("", "n1", "n2")),
            )
        )
    return made


def _some_query(chance: random.Random, volumes: list[model.Volume]) -> model.Query:
    one, some = chance.choice(volumes), tuple(each.id for each in chance.sample(volumes, 3))
    fields: dict[str, Any] = {
        "name": one.name,
        "ids": chance.choice(((), some, (*some, "no such id"))),
        "labels": dict(chance.sample(sorted(one.labels.items()), min(1, len(one.labels)))),
        "config_labels": chance.choice((one.spec.labels, {"a": "b"})),
        "parents": chance.choice(((), some, (volumes[0].id,))),
        "node_id": "n1",
        "attached_on": "n2",
        "after": one.name,
        "limit": chance.choice((1, 3)),
    }
    wanted = chance.sample(sorted(fields), chance.choice((1, 1, 2, 3)))
    return model.Query(**{name: fields[name] for name in wanted})


def _wants(query: model.Query, each: model.Volume) -> bool:
    parents = query.parents is None or (
        each.source.parent in query.parents if query.parents else each.is_snapshot
    )
    return (
        parents
        and (query.ids is None or each.id in query.ids)
        and query.name in ("", each.name)
        and query.node_id in ("", each.node_id)
        and query.attached_on in ("", each.attached_on)
        and each.name > query.after
        and query.labels.items() <= each.labels.items()
        and query.config_labels.items() <= each.spec.labels.items()
    )
