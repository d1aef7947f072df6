# SPDX-License-Identifier: Apache-2.0
"""What the engine of one machine can't show: other versions, rare errors, odd cuts."""

import decimal
import os
import threading

import docker.errors
import hypothesis
import pytest
import requests
from hypothesis import strategies

from container_stack import exceptions
from container_stack.host import (
    containers,
    engine_client,
    engine_config,
    engine_events,
    engine_exec,
    engine_json,
    images,
)

OLD, NEW = (1, 41), (1, 44)


def spec(**values: object) -> containers.ContainerSpec:
    return containers.ContainerSpec("name", "image", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["", "/var/run/docker.sock", "unix://", "tcp://host", "tcp://", "http://host:1"],
)
def test_url_of_no_engine_is_refused_at_once(url: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        containers.Engine(url)


def test_tls_of_a_socket_is_refused_at_once() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="tcp://"):
        containers.Engine(tls=containers.TLS())


def test_missing_certificates_are_found_at_the_first_call() -> None:
    tls = containers.TLS("/nonexistent/ca.pem", "/nonexistent/cert.pem", "/nonexistent/key.pem")
    engine = containers.Engine("tcp://127.0.0.1:1", tls=tls)
    with pytest.raises(exceptions.InvalidRequest, match="certificate"):
        engine.version()


def test_spec_grants_nothing_by_default() -> None:
    host = engine_config.container_config(spec(), NEW)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["NetworkMode"] == "none"
    assert "Privileged" not in host
    assert "Binds" not in host


@pytest.mark.parametrize(
    ("api", "options"),
    [
        (OLD, {"Propagation": "rslave"}),
        (NEW, {"Propagation": "rslave", "ReadOnlyNonRecursive": True}),
        ((1, 51), {"Propagation": "rslave", "ReadOnlyNonRecursive": True}),
    ],
)
def test_read_only_binds_never_reach_into_mounts_below(
    api: tuple[int, ...], options: dict[str, object]
) -> None:
    bind = containers.Mount("/a", "/b", read_only=True, propagation="rslave")
    (mount,) = engine_config.container_config(spec(mounts=[bind]), api)["HostConfig"]["Mounts"]
    assert mount["BindOptions"] == options
    assert mount["ReadOnly"] is True


def test_writable_binds_have_no_such_option() -> None:
    bind = containers.Mount("/a", "/b")
    (mount,) = engine_config.container_config(spec(mounts=[bind]), NEW)["HostConfig"]["Mounts"]
    assert mount["BindOptions"] == {}


def test_mac_address_goes_where_the_engines_version_looks_for_it() -> None:
    mac = "02:42:00:00:00:07"
    old = engine_config.container_config(spec(network="net", mac=mac), OLD)
    new = engine_config.container_config(spec(network="net", mac=mac), NEW)
    endpoint = "NetworkingConfig", "EndpointsConfig", "net"
    assert old["MacAddress"] == mac
    assert "MacAddress" not in old[endpoint[0]][endpoint[1]][endpoint[2]]
    assert "MacAddress" not in new
    assert new[endpoint[0]][endpoint[1]][endpoint[2]]["MacAddress"] == mac


def test_empty_command_is_not_the_images_command() -> None:
    assert "Cmd" not in engine_config.container_config(spec(), NEW)
    assert engine_config.container_config(spec(command=[]), NEW)["Cmd"] == []
    assert engine_config.container_config(spec(entrypoint=["a", "b c"]), NEW)["Entrypoint"] == [
        "a",
        "b c",
    ]


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "invalid reference format", exceptions.InvalidRequest),
        (403, "Pool overlaps with other one on this address space", exceptions.Busy),
        (403, "error while removing network: network n has active endpoints", exceptions.Busy),
        (403, "operation is not permitted on bridge", exceptions.InvalidRequest),
        (404, "No such container: x", exceptions.NotFound),
        (404, "No such image: x:1", exceptions.NotFound),
        (
            409,
            'The container name "/x" is already in use by container "y"',
            exceptions.AlreadyExists,
        ),
        (409, "network with name x already exists", exceptions.AlreadyExists),
        (409, "Container x is not running", exceptions.Busy),
        (409, "remove v: volume is in use - [c]", exceptions.Busy),
        (500, "write /var/lib/docker/x: no space left on device", exceptions.NoSpace),
        (500, "write /var/lib/docker/x: disk quota exceeded", exceptions.NoSpace),
        (
            500,
            "Error processing tar file(exit status 1): unexpected EOF",
            exceptions.InvalidRequest,
        ),
        (501, "not implemented", exceptions.NotSupported),
        (503, "This node is not a swarm manager", exceptions.EngineUnavailable),
        (500, "something odd", exceptions.ContainerStackError),
    ],
)
def test_answers_become_errors_of_ours(
    status: int, message: str, kind: type[exceptions.ContainerStackError]
) -> None:
    error = engine_client.api_error(status, message)
    assert type(error) is kind
    assert message in str(error)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (requests.ConnectTimeout("x"), exceptions.EngineUnavailable),
        (requests.ReadTimeout("x"), exceptions.EngineUnavailable),
        (requests.exceptions.ChunkedEncodingError("x"), exceptions.EngineUnavailable),
        (requests.exceptions.JSONDecodeError("x", "{", 1), exceptions.EngineUnavailable),
        (docker.errors.DockerException("x"), exceptions.EngineUnavailable),
        (docker.errors.NullResource("x"), exceptions.InvalidRequest),
        (docker.errors.InvalidVersion("x"), exceptions.NotSupported),
        (BrokenPipeError(32, "x"), exceptions.EngineUnavailable),
    ],
)
def test_errors_of_sdk_http_and_sockets_become_ours(
    raised: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(exceptions.ContainerStackError) as error:
        fail(raised)
    assert type(error.value) is kind
    assert error.value.__cause__ is raised


def fail(error: Exception) -> None:
    with engine_client.translated("unix:///x"):
        raise error


def test_other_errors_pass_untouched() -> None:
    with pytest.raises(KeyError):
        fail(KeyError("x"))


def test_frames_survive_any_cut() -> None:
    stream = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x02xy\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01d"
    for size in range(1, len(stream) + 1):
        output = engine_exec.Output()
        for start in range(0, len(stream), size):
            output.feed(stream[start : start + size])
        assert (bytes(output.stdout), bytes(output.stderr)) == (b"abcd", b"xy")


def test_listed_container_may_have_neither_labels_nor_networks() -> None:
    data = {
        "Id": "1",
        "Names": ["/other/alias", "/name"],
        "ImageID": "sha256:2",
        "State": "exited",
        "Status": "Exited (137) 3 weeks ago",
        "Labels": None,
        "NetworkSettings": {"Networks": None},
        "Mounts": None,
    }
    found = engine_json.listed_container(data)
    assert (found.name, found.exit_code, found.labels, found.addresses) == ("name", 137, {}, {})


def test_engines_zero_time_is_none() -> None:
    assert engine_json.timestamp("0001-01-01T00:00:00Z") is None
    found = engine_json.timestamp("2026-11-21T09:35:03.123456789Z")
    assert found is not None
    assert found.timestamp() == pytest.approx(1795253703.123456)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("name", ("name", "latest")),
        ("name:1", ("name", "1")),
        ("host:5000/name", ("host:5000/name", "latest")),
        ("host:5000/name:1.2", ("host:5000/name", "1.2")),
    ],
)
def test_reference_is_split_at_the_tag(reference: str, expected: tuple[str, str]) -> None:
    assert images.split_reference(reference) == expected


class Ending:
    """A stream of events that ends by itself, as when the engine stops in good order."""

    def __next__(self) -> object:
        raise StopIteration

    def close(self) -> None:
        pass


def test_end_of_events_is_a_loss_unless_asked_for() -> None:
    events = engine_events.Events("unix:///x", Ending())
    with pytest.raises(exceptions.EngineUnavailable, match="stopped telling"):
        next(events)
    events.close()
    assert list(events) == []


def test_connecting_in_a_child_waits_for_no_lock_of_the_parents() -> None:
    connection = engine_client.Connection("tcp://127.0.0.1:1", None, 1.0)
    held = connection._locks.setdefault(os.getpid(), threading.Lock())
    with held:
        pid = os.fork()
        if not pid:
            try:
                with connection.use():
                    os._exit(1)
            except exceptions.EngineUnavailable:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0


def test_what_few_containers_want_is_said_only_for_them() -> None:
    wanted = engine_config.container_config(
        spec(
            restart="on-failure:5",
            gpus=["GPU-1"],
            published=[
                *(("80/tcp", "8080"), ("80/tcp", ""), ("53/udp", "53")),
                *(("81/tcp", "192.0.2.5:81"), ("81/tcp", "[2001:db8::5]:82")),
            ],
            storage=1_000_000,
            security=["seccomp=unconfined"],
            device_rules=["b 253:7 rw"],
            userns="host",
            runtime="runsc",
        ),
        NEW,
    )
    host = wanted["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["GPU-1"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostPort": "8080"}, {"HostPort": ""}],
        "53/udp": [{"HostPort": "53"}],
        "81/tcp": [
            {"HostPort": "81", "HostIp": "192.0.2.5"},
            {"HostPort": "82", "HostIp": "2001:db8::5"},
        ],
    }
    assert set(wanted["ExposedPorts"]) == {"80/tcp", "81/tcp", "53/udp"}
    assert host["StorageOpt"] == {"size": "1000000"}
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert (host["DeviceCgroupRules"], host["UsernsMode"]) == (["b 253:7 rw"], "host")
    assert host["Runtime"] == "runsc"
    plain = engine_config.container_config(spec(), NEW)
    extra = {"DeviceRequests", "PortBindings", "StorageOpt", "Devices", "Dns", "LogConfig"}
    assert extra.isdisjoint(plain["HostConfig"])
    assert "ExposedPorts" not in plain


def test_limits_are_the_same_words_at_the_start_and_later() -> None:
    limits = containers.Limits(
        memory=64, swap=32, cpu_shares=2, cpuset_cpus="0", pids=7, cpu_quota=5
    )
    later = engine_config.limits(limits)
    host = engine_config.container_config(spec(limits=limits), NEW)["HostConfig"]
    assert later.items() <= host.items()
    assert later == {
        "Memory": 64,
        "MemorySwap": 96,
        "CpuShares": 2,
        "CpusetCpus": "0",
        "PidsLimit": 7,
        "CpuQuota": 5,
    }


@hypothesis.example(1795314915602758930)  # as a float it is the next whole microsecond
@hypothesis.given(strategies.integers(1_600_000_000 * 10**9, 2_600_000_000 * 10**9))
def test_events_since_the_time_of_one_begin_with_it(nanoseconds: int) -> None:
    event = engine_json.event({"Action": "start", "Actor": {"ID": "1"}, "timeNano": nanoseconds})
    asked = decimal.Decimal(engine_json.since(event.time)) * 10**9
    assert nanoseconds - 3000 < asked <= nanoseconds


def test_pieces_of_an_answer_are_read_and_left_off_in_any_thread() -> None:
    connection = engine_client.Connection("unix:///nowhere", None, 1.0)
    connection._clients[os.getpid()] = object()  # type: ignore[assignment]
    pieces = connection.chunks(lambda _client: iter([b"a", b"b", b"c"]), 5.0)
    assert next(pieces) == b"a"
    found: list[object] = []

    def other() -> None:
        found.append(next(pieces))
        pieces.close()  # type: ignore[attr-defined]
        found.append(next(pieces, "over"))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [b"b", "over"]


def test_a_host_without_ssh_is_told_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(exceptions.EngineUnavailable, match="openssh-client"):
        containers.Engine("ssh://nobody@192.0.2.1").version()
