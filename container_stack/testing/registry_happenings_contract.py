# SPDX-License-Identifier: Apache-2.0
"""The part of the registry's contract suite about what happened."""

import concurrent.futures
import datetime
import uuid

from container_stack.testing import registry_world
from container_stack.testing.registry_world import ODD, Open, later, volume
from container_stack.volumes import model, registry


class HappeningsContract(registry_world.RegistryFixtures):
    """What every registry must remember of what happened."""

    def test_events_come_newest_first_and_only_the_wanted(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        one, two = str(uuid.uuid4()), str(uuid.uuid4())
        here.add_event("create", driver="loop", volume_id=one, node_id="n1", text="ß 'x'")
        here.add_event("mount", driver="btrfs", volume_id=two)
        here.add_event("fence", node_id="n2")
        found = here.events()
        assert [each.kind for each in found] == ["fence", "mount", "create"]
        assert found[0].id > found[1].id > found[2].id
        last = found[2]
        assert (last.driver, last.volume_id, last.node_id) == ("loop", one, "n1")
        assert last.text == "ß 'x'"
        assert last.at.utcoffset() == datetime.timedelta(0)
        assert here.events(driver="btrfs") == [found[1]] == here.events(volume_id=two)
        assert here.events(driver="btrfs", volume_id=one) == []
        assert here.events(after=last.id) == list(found[:2])
        assert here.events(limit=1) == [found[0]]
        assert registry_world.soon(lambda: there.events() == found)

    def test_events_are_noted_by_all_hosts_at_once(self, open_registry: Open) -> None:
        hosts = [open_registry() for _ in range(3)]

        def note(number: int) -> None:
            for turn in range(20):
                hosts[number % 3].add_event("turn", text=f"{number}.{turn}")

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(note, range(6)))
        wanted = {f"{number}.{turn}" for number in range(6) for turn in range(20)}
        for host in hosts:
            assert registry_world.soon(lambda: len(host.events(limit=1000)) == 120)  # noqa: B023
            assert {event.text for event in host.events(limit=1000)} == wanted
            host.close()

    def test_events_are_written_before_a_registry_is_closed(self, open_registry: Open) -> None:
        one, other = open_registry(), open_registry()
        one.add_event("last")
        one.close()
        assert [event.kind for event in other.events()] == ["last"]
        other.close()

    def test_samples_are_kept_and_a_volume_knows_the_newest(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        made = volume()
        here.add(made)
        taken = [model.Sample(made.id, later(index), 2**40 + index) for index in range(6)]
        here.add_samples(taken)
        here.add_samples([])
        there.add_samples(taken[4:])
        assert there.samples(made.id) == taken
        assert there.samples(made.id, since=later(3)) == taken[3:]
        assert there.samples(made.id, limit=2) == taken[-2:]
        found = there.get(made.id)
        assert (found.usage, found.last_scan) == (taken[-1].used, taken[-1].at)

    def test_alert_stands_once_until_it_is_cleared(
        self, here: registry.Registry, there: registry.Registry
    ) -> None:
        one, two = str(uuid.uuid4()), str(uuid.uuid4())
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            raised = lambda _: there.raise_alert(one, model.Severity.WARNING, "full")  # noqa: E731
            list(pool.map(raised, range(8)))
        here.raise_alert(one, model.Severity.ALARM, "full")
        here.raise_alert(one, model.Severity.NOTICE, "slow")
        here.raise_alert(two, model.Severity.WARNING, "full")
        said = [(each.volume_id, each.severity, each.text) for each in here.alerts()]
        assert said == [
            (two, model.Severity.WARNING, "full"),
            (one, model.Severity.NOTICE, "slow"),
            (one, model.Severity.ALARM, "full"),
            (one, model.Severity.WARNING, "full"),
        ]
        here.clear_alerts(one, "full")
        here.clear_alerts(one, "full")
        assert [each.text for each in here.alerts(one)] == ["slow"]
        past = here.alerts(one, standing=False)
        assert [each.cleared_at is None for each in past] == [True, False, False]
        here.raise_alert(one, model.Severity.ALARM, "full")
        assert len(here.alerts(one)) == 2
        here.clear_alerts(one)
        assert [each.volume_id for each in here.alerts()] == [two]
        assert len(here.alerts(standing=False)) == 5
        assert len(here.alerts(standing=False, limit=2)) == 2

    def test_old_happenings_are_forgotten_and_standing_alerts_are_not(
        self, here: registry.Registry
    ) -> None:
        made = volume()
        here.add(made)
        here.add_event("create")
        here.add_samples([model.Sample(made.id, later(index), index) for index in (0, 9)])
        for text in ("stands", "cleared"):
            here.raise_alert(made.id, model.Severity.ALARM, text)
        here.clear_alerts(made.id, "cleared")
        here.trim(later(5))
        assert len(here.events()) == 1
        assert [each.used for each in here.samples(made.id)] == [9]
        here.trim(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10))
        assert here.events() == []
        assert [each.text for each in here.alerts(standing=False)] == ["stands"]
        assert here.get(made.id).usage == 9

    def test_texts_of_others_do_no_harm(self, here: registry.Registry) -> None:
        made = volume()
        here.add(made)
        for text in (*ODD, "a\0b", "\ud800", "long " * 100_000):
            here.add_event("odd", text=text)
            here.raise_alert(made.id, model.Severity.NOTICE, text)
            here.update(made.id, error=text)
            said = [here.events(limit=1)[0].text, here.get(made.id).error]
            assert said[0] == said[1] == here.alerts(made.id, limit=1)[0].text
            assert said[0].startswith(text[:1].replace("\ud800", "?"))
            here.clear_alerts(made.id, text)
            assert here.alerts(made.id) == []
