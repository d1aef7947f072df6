# SPDX-License-Identifier: Apache-2.0
"""Many questions, one call to the engine; and none of them answered by what was before."""

import uuid
from collections.abc import Sequence

import pytest

from container_stack.servers import model, standing


class Engine:
    """Servers, and how often somebody asked for them."""

    def __init__(self, count: int) -> None:
        self.states = {str(uuid.uuid4()): model.State.RUNNING for _ in range(count)}
        self.lists = self.gets = 0
        self.while_listing = lambda: None

    def list(self) -> Sequence[model.Server]:
        self.lists += 1
        found = [_server(each, state) for each, state in self.states.items()]
        self.while_listing()
        return found

    def get(self, server_id: str) -> model.Server:
        self.gets += 1
        if server_id not in self.states:
            raise model.ServerNotFound(server_id)
        return _server(server_id, self.states[server_id])


def _server(server_id: str, state: model.State) -> model.Server:
    return model.Server(server_id, "", server_id, "", state)


def test_many_questions_take_one_call() -> None:
    engine = Engine(1000)
    known = standing.Standing(engine.list, engine.get)
    assert {known.state(each) for each in engine.states} == {model.State.RUNNING}
    assert (engine.lists, engine.gets) == (1, 0)


def test_what_changed_is_asked_for_alone() -> None:
    engine = Engine(3)
    known = standing.Standing(engine.list, engine.get)
    first, second, _third = engine.states
    known.servers()
    engine.states[first] = model.State.STOPPED
    known.forget(first)
    assert known.state(first) is model.State.STOPPED
    assert known.state(second) is model.State.RUNNING
    assert (engine.lists, engine.gets) == (1, 1)


def test_what_changes_while_the_engine_lists_is_not_taken_from_the_list() -> None:
    engine = Engine(1)
    known = standing.Standing(engine.list, engine.get)
    (only,) = engine.states

    def stop() -> None:
        engine.states[only] = model.State.STOPPED
        known.forget(only)

    engine.while_listing = stop
    known.servers()
    assert known.state(only) is model.State.STOPPED


def test_an_old_list_answers_nothing() -> None:
    engine = Engine(2)
    known = standing.Standing(engine.list, engine.get, age=0.0)
    for each in engine.states:
        known.state(each)
    assert engine.lists == 2


def test_a_server_that_the_list_has_not_is_asked_for() -> None:
    engine = Engine(1)
    known = standing.Standing(engine.list, engine.get)
    known.servers()
    with pytest.raises(model.ServerNotFound):
        known.state(str(uuid.uuid4()))
