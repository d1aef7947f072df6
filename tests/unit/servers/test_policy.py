# SPDX-License-Identifier: Apache-2.0
"""What tenants may have: the README's examples, what is refused by default, and what allows it."""

import dataclasses
import json

import pytest

from container_stack import exceptions
from container_stack.servers import model
from container_stack.servers.wishes import policy, user_data

GIB = 1024**3

#: As the driver's first README has them.
ETCD = """
environment :
    etcd : 10.144.192.168

volumes :
    /var/run/docker.sock : /var/run/docker.sock
"""
HEAT = "volumes :\n  /tmp/test112233 : /tmp/test112233\n"
DOCUMENT = """
{
     "Hostname":"", "Domainname": "", "User":"", "Memory":0, "MemorySwap":0,
     "CpuShares": 512, "Cpuset": "0,1",
     "AttachStdin":false, "AttachStdout":true, "AttachStderr":true,
     "Tty":false, "OpenStdin":false, "StdinOnce":false,
     "Env":null, "Cmd":[ "date" ], "Entrypoint": "", "Image":"base",
     "Volumes":{ "/tmp": {} },
     "WorkingDir":"", "NetworkDisabled": false, "MacAddress":"12:34:56:78:9a:bc",
     "ExposedPorts":{ "22/tcp": {} },
     "SecurityOpts": [""],
     "HostConfig": {
       "Binds":["/tmp:/tmp"],
       "Links":["redis3:redis"],
       "LxcConf":{"lxc.utsname":"docker"},
       "PortBindings":{ "22/tcp": [{ "HostPort": "11022" }] },
       "PublishAllPorts":false, "Privileged":false,
       "Dns": ["8.8.8.8"], "DnsSearch": [""],
       "VolumesFrom": ["parent", "other:ro"],
       "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"],
       "RestartPolicy": { "Name": "", "MaximumRetryCount": 0 },
       "NetworkMode": "bridge", "Devices": []
    }
}
"""
ALLOWING = policy.Rules(
    allowed_host_paths={"/tmp": False},
    allowed_links={"redis3": "192.0.2.3"},
    allowed_volumes_from={"parent": False, "other": True},
    allowed_capabilities=("NET_ADMIN",),
    allowed_host_ports=((11000, 11999),),
)


def admit(
    document: str | dict[str, object], rules: policy.Rules | None = None, **facts: object
) -> model.Wish:
    text = document if isinstance(document, str) else json.dumps(document)
    parsed = user_data.parse(text.encode())
    return policy.Policy(rules or policy.Rules()).admit(parsed, **facts)  # type: ignore[arg-type]


def host(**config: object) -> dict[str, object]:
    return {"HostConfig": config}


# The README's examples


def test_environment_and_socket_of_the_engine_if_the_operator_allows_it() -> None:
    rules = policy.Rules(allowed_host_paths={"/var/run/docker.sock": False})
    assert admit(ETCD, rules) == model.Wish(
        environment={"etcd": "10.144.192.168"},
        volumes=(("/var/run/docker.sock", "/var/run/docker.sock", False),),
    )


def test_a_directory_of_the_host_if_the_operator_allows_it() -> None:
    rules = policy.Rules(allowed_host_paths={"/tmp/test112233": False})
    wish = admit(HEAT, rules)
    assert wish == model.Wish(volumes=(("/tmp/test112233", "/tmp/test112233", False),))


def test_the_whole_document_if_the_operator_allows_it() -> None:
    wish = admit(DOCUMENT, ALLOWING, image={"base", "an-id"}, macs={"12:34:56:78:9a:bc"})
    assert wish == model.Wish(
        command=("date",),
        cpu_shares=512,
        cpuset="0,1",
        volumes=(("/tmp", "/tmp", False),),
        hostname="docker",
        hosts=(("redis", "192.0.2.3"),),
        published=(("22/tcp", "11022"),),
        dns=("8.8.8.8",),
        volumes_from=(("parent", False), ("other", True)),
        add_capabilities=("NET_ADMIN",),
        drop_capabilities=("MKNOD",),
    )


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("allowed_host_paths", "Binds '/tmp'"),
        ("allowed_links", "Links 'redis3'"),
        ("allowed_volumes_from", "VolumesFrom 'parent'"),
        ("allowed_capabilities", "CapAdd 'NET_ADMIN'"),
        ("allowed_host_ports", "PortBindings '11022'"),
    ],
)
def test_each_of_the_documents_permissions_is_needed(field: str, key: str) -> None:
    rules = dataclasses.replace(ALLOWING, **{field: type(getattr(ALLOWING, field))()})
    with pytest.raises(policy.Refused, match=rf"{key} is refused.*\[docker\] {field}\."):
        admit(DOCUMENT, rules)


# What is refused by default, and allowed by its option

#: A document, what a refusal names, and the option with a value that allows it.
REFUSED: list[tuple[dict[str, object], str, str, object]] = [
    (host(Binds=["/etc:/x"]), "Binds '/etc'", "allowed_host_paths", {"/etc": False}),
    ({"volumes": {"/": "/x"}}, "volumes '/'", "allowed_host_paths", {"/": False}),
    (host(Devices=["/dev/kvm"]), "Devices '/dev/kvm'", "allowed_devices", {"/dev/kvm": False}),
    (host(Privileged=True), "Privileged 'true'", "allow_privileged", True),
    (host(CapAdd=["SYS_ADMIN"]), "CapAdd 'SYS_ADMIN'", "allowed_capabilities", ["SYS_ADMIN"]),
    (host(PidMode="host"), "PidMode 'host'", "allowed_host_namespaces", ["pid"]),
    (host(IpcMode="host"), "IpcMode 'host'", "allowed_host_namespaces", ["ipc"]),
    (host(Links=["a:b"]), "Links 'a'", "allowed_links", {"a": "192.0.2.1"}),
    ({"volumes_from": ["a"]}, "volumes_from 'a'", "allowed_volumes_from", {"a": False}),
    (host(PortBindings={"1": "80"}), "PortBindings '80'", "allowed_host_ports", [(80, 80)]),
    (host(RestartPolicy={"Name": "always"}), "RestartPolicy 'always'",
     "allow_restart_policies", True),
    (host(SecurityOpt=["label:disable"]), "SecurityOpt 'label:disable'",
     "allowed_security_options", ["label:disable"]),
    ({"SecurityOpts": ["apparmor=unconfined"]}, "SecurityOpts 'apparmor=unconfined'",
     "allowed_security_options", ["apparmor=unconfined"]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "names", "option", "value"), REFUSED)
def test_it_is_refused_by_default_and_allowed_by_its_option(
    document: dict[str, object], names: str, option: str, value: object
) -> None:
    with pytest.raises(policy.Refused) as info:
        admit(document)
    wanted = f"{names} is refused; the operator can allow it by [docker] {option}."
    assert str(info.value) == wanted
    assert admit(document, policy.Rules(**{option: value})) != model.Wish()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("document", "rules", "names"),
    [
        (host(Binds=["/a/b:/x"]), policy.Rules(allowed_host_paths={"/a": False}), "Binds '/a/b'"),
        (host(Binds=["/a:/x"]), policy.Rules(allowed_host_paths={"/a/b": False}), "Binds '/a'"),
        (host(PortBindings={"22": ""}), policy.Rules(allowed_host_ports=[(1, 65535)]),
         "any for 22"),
        (host(PortBindings={"22": "9"}), policy.Rules(allowed_host_ports=[(10, 20)]), "'9'"),
        (host(PidMode="host"), policy.Rules(allowed_host_namespaces=["ipc"]), "PidMode"),
        (host(PidMode="container:x"), policy.Rules(allowed_host_namespaces=["pid"]), "PidMode"),
        (host(CapAdd=["ALL"]), policy.Rules(allowed_capabilities=["NET_ADMIN"]), "CapAdd"),
        (host(NetworkMode="host"), ALLOWING, "NetworkMode 'host' .* no option allows"),
        (host(NetworkMode="container:x"), ALLOWING, "NetworkMode .* no option allows"),
        (host(PublishAllPorts=True), ALLOWING, "PublishAllPorts .* allowed_host_ports"),
        (host(VolumesFrom=["other"]), ALLOWING, "VolumesFrom 'other' .* reading only"),
        (host(Binds=["/r:/x"]), policy.Rules(allowed_host_paths={"/r": True}), "reading only"),
        (host(Devices=["/dev/r"]), policy.Rules(allowed_devices={"/dev/r": True}), "reading only"),
        ({"Volumes": {"/x": {}}}, policy.Rules(allow_anonymous_volumes=False),
         "allow_anonymous_volumes"),
    ],
)  # fmt: skip
def test_permissions_reach_no_further_than_they_say(
    document: dict[str, object], rules: policy.Rules, names: str
) -> None:
    with pytest.raises(policy.Refused, match=names):
        admit(document, rules)


def test_what_is_allowed_for_reading_only_can_be_read() -> None:
    rules = policy.Rules(allowed_host_paths={"/r": True}, allowed_devices={"/dev/r": True})
    wish = admit(host(Binds=["/r:/x:ro"], Devices=["/dev/r:/dev/x:mr"]), rules)
    assert wish.volumes == (("/r", "/x", True),)
    assert wish.devices == (("/dev/r", "/dev/x", "rm"),)


# What needs no permission


def test_what_only_the_tenant_himself_feels_is_his() -> None:
    wish = admit(
        {
            "Env": ["A=1"],
            "User": "nobody",
            "Entrypoint": ["/init"],
            "WorkingDir": "/srv",
            "Tty": True,
            "OpenStdin": True,
            "NetworkDisabled": True,
            "Volumes": {"/data": {}},
            "name": "/db",
            "HostConfig": {
                "NetworkMode": "default",
                "IpcMode": "private",
                "CapDrop": ["ALL"],
                "ExtraHosts": ["a:192.0.2.1"],
                "SecurityOpt": ["no-new-privileges"],
            },
        }
    )
    assert wish.hostname == "db"
    assert wish.hosts == (("a", "192.0.2.1"),)
    assert wish.security == ("no-new-privileges",)
    assert wish.tty
    assert wish.open_stdin
    assert "CHOWN" in wish.drop_capabilities
    assert "ALL" not in wish.drop_capabilities
    assert wish.volumes == (("", "/data", False),)


def test_of_all_capabilities_dropped_those_added_are_kept() -> None:
    rules = policy.Rules(allowed_capabilities=["NET_ADMIN", "CHOWN"])
    wish = admit(host(CapDrop=["ALL"], CapAdd=["CHOWN"]), rules)
    assert wish.add_capabilities == ("CHOWN",)
    assert "CHOWN" not in wish.drop_capabilities
    assert "NET_ADMIN" in wish.drop_capabilities


def test_user_data_for_others_is_no_wish() -> None:
    for text in ("", "#cloud-config\nvolumes: {/: /}\n", "#!/bin/sh\n"):
        assert admit(text) == model.Wish()


def test_parameters_can_be_turned_off() -> None:
    off = policy.Rules(user_data_parameters=False)
    assert admit(host(Privileged=True), off) == admit({"foo": 1}, off) == model.Wish()


def test_ignored_keys_have_no_effect() -> None:
    rules = policy.Rules(ignored_user_data={"Privileged", "Links", "Foo"})
    assert admit({"Foo": 1, **host(Privileged=True, Links="x")}, rules) == model.Wish()


def test_two_binds_in_one_place_are_refused() -> None:
    rules = policy.Rules(allowed_host_paths={"/a": False, "/b": False})
    with pytest.raises(exceptions.InvalidRequest, match="'/x' twice"):
        admit(host(Binds=["/a:/x", "/b:/x"]), rules)


# Facts and amounts


def test_the_image_and_the_address_are_chosen_elsewhere() -> None:
    assert admit({"Image": "other"}) == admit({"MacAddress": "02:00:00:00:00:01"}) == model.Wish()
    with pytest.raises(policy.Refused, match="Image 'other' is not the image"):
        admit({"Image": "other"}, image=("base",))
    assert admit({"NetworkDisabled": True}, macs=()) == model.Wish()
    with pytest.raises(policy.Refused, match="NetworkDisabled is for servers without networks"):
        admit({"NetworkDisabled": True}, macs=("02:00:00:00:00:01",))
    with pytest.raises(policy.Refused, match="MacAddress 02:00:00:00:00:01 is that of no port"):
        admit({"MacAddress": "02:00:00:00:00:01"}, macs=())


FLAVOR = model.Limits(memory=2 * GIB, swap=GIB, cpu_shares=2048, cpuset="2-5,9")


@pytest.mark.parametrize(
    ("document", "memory", "swap"),
    [
        ({"Memory": GIB}, GIB, None),
        ({"Memory": GIB, "MemorySwap": 3 * GIB}, GIB, 2 * GIB),
        ({"Memory": GIB, "MemorySwap": GIB}, GIB, 0),
        ({"MemorySwap": "3g"}, None, GIB),
        ({"Memory": 0, "MemorySwap": 0}, None, None),
    ],
)
def test_a_tenant_may_take_less_than_his_flavor_has(
    document: dict[str, object], memory: int | None, swap: int | None
) -> None:
    wish = admit({**document, "CpuShares": 2048, "Cpuset": "3,9"}, limits=FLAVOR)
    assert (wish.memory, wish.swap, wish.cpu_shares) == (memory, swap, 2048)
    assert wish.cpuset == "3,9"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"Memory": 2 * GIB + 1}, "Memory can't be more than 2147483648"),
        ({"Memory": 4096}, "Memory must be 6291456 bytes at least"),
        ({"MemorySwap": 3 * GIB + 1}, "MemorySwap can't be more than 3221225472"),
        ({"MemorySwap": GIB}, "MemorySwap is memory and swap together"),
        ({"CpuShares": 2049}, "CpuShares can't be more than 2048"),
        ({"Cpuset": "2-6"}, "Cpuset can't have CPU 6; the flavor has 2-5,9"),
    ],
)
def test_no_tenant_takes_more_than_his_flavor_has(document: dict[str, object], why: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=why):
        admit(document, limits=FLAVOR)


def test_who_is_resized_keeps_of_his_wish_what_his_flavor_has() -> None:
    parsed = user_data.parse(
        b"{Memory: 4g, MemorySwap: 9g, CpuShares: 4096, Cpuset: '0-3', NetworkDisabled: true}"
    )
    wish = policy.Policy().admit(parsed, limits=FLAVOR, strict=False)
    assert (wish.memory, wish.swap) == (2 * GIB, GIB)
    assert (wish.cpu_shares, wish.cpuset) == (2048, "2,3")
    tiny = model.Limits(memory=GIB // 4, cpuset="9")
    wish = policy.Policy().admit(parsed, limits=tiny, strict=False)
    assert (wish.memory, wish.swap, wish.cpuset) == (GIB // 4, 0, "9")


def test_nobody_weighs_more_than_usual_without_a_flavor_that_says_so() -> None:
    assert admit({"CpuShares": 1024}).cpu_shares == 1024
    with pytest.raises(exceptions.InvalidRequest, match="can't be more than 1024"):
        admit({"CpuShares": 1025})
    with pytest.raises(exceptions.InvalidRequest, match="name both"):
        admit({"MemorySwap": GIB})


def test_no_refusal_shows_what_variables_hold() -> None:
    with pytest.raises(exceptions.InvalidRequest) as info:
        admit({"Env": ["PASSWORD=hunter2"], "environment": {"PASSWORD": ["hunter2"]}})
    assert "hunter2" not in str(info.value)
    assert "hunter2" not in repr(user_data.parse(b"environment: {PASSWORD: hunter2}"))
