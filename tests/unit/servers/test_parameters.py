# SPDX-License-Identifier: Apache-2.0
"""Every key of the API's document and of its Python client: what is taken, and what isn't."""

import dataclasses
import typing

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.servers.wishes import parameters

TARGETS = "a path in the container"

#: By key: a value as a tenant writes it, and the field that it becomes.
TAKEN = [
    ("Hostname", "web_1", "hostname", "web_1"),
    ("Domainname", "example.org", "domainname", "example.org"),
    ("User", "1000:www-data", "user", "1000:www-data"),
    ("Memory", "536870912", "memory", 536870912),
    ("MemorySwap", "1g", "memory_and_swap", 1024**3),
    ("CpuShares", "512", "cpu_shares", 512),
    ("Cpuset", "0,1", "cpuset", "0,1"),
    ("AttachStdin", False, "attached", False),
    ("AttachStdout", "true", "attached", False),
    ("AttachStderr", True, "attached", False),
    ("Tty", True, "tty", True),
    ("OpenStdin", "True", "open_stdin", True),
    ("StdinOnce", True, "attached", False),
    ("Env", ["A=1", "B=x=y", "C="], "environment", {"A": "1", "B": "x=y", "C": ""}),
    ("Cmd", ["date", "-u", ""], "command", ("date", "-u", "")),
    ("Cmd", "date -u", "command", ("date -u",)),
    ("Entrypoint", "", "entrypoint", None),
    ("Entrypoint", [""], "entrypoint", ("",)),
    ("Image", "base", "image", "base"),
    (
        "Volumes",
        {"/tmp": {}, "/data": None},
        "volumes",
        (("", "/tmp", False), ("", "/data", False)),
    ),
    ("WorkingDir", "/srv/www", "working_dir", "/srv/www"),
    ("NetworkDisabled", True, "network_disabled", True),
    ("MacAddress", "12:34:56:78:9a:bc", "mac", "12:34:56:78:9a:bc"),
    ("ExposedPorts", {"22/tcp": {}, "53/udp": {}}, "exposed", ("22/tcp", "53/udp")),
    ("SecurityOpts", [""], "security_options", ()),
    ("SecurityOpt", ["no-new-privileges"], "security_options", ("no-new-privileges",)),
    ("PortSpecs", ["22"], "exposed", ("22/tcp",)),
    ("OnBuild", [], "unused", None),
    ("command", "sh -c 'echo \"a b\"'", "command", ("sh", "-c", 'echo "a b"')),
    ("command", ["date"], "command", ("date",)),
    ("user", "nobody", "user", "nobody"),
    ("detach", "false", "attached", False),
    ("stdin_open", "true", "open_stdin", True),
    ("tty", "true", "tty", True),
    ("ports", ["1111", ["2222", "udp"]], "exposed", ("1111/tcp", "2222/udp")),
    (
        "environment",
        {"A": "1", "B": None, "C": True},
        "environment",
        {"A": "1", "B": "", "C": "true"},
    ),
    ("environment", ["A=1"], "environment", {"A": "1"}),
    ("dns", "192.0.2.1", "dns", ("192.0.2.1",)),
    ("dns", ["192.0.2.1", "2001:DB8::1"], "dns", ("192.0.2.1", "2001:db8::1")),
    ("volumes", {"/h": "/c"}, "volumes", (("/h", "/c", False),)),
    ("volumes", {"/h": "/c:ro"}, "volumes", (("/h", "/c", True),)),
    ("volumes", {"/h": {"bind": "/c", "ro": "true"}}, "volumes", (("/h", "/c", True),)),
    ("volumes", {"/h": {"bind": "/c", "mode": "ro"}}, "volumes", (("/h", "/c", True),)),
    ("volumes", ["/a", "/h:/c:ro"], "volumes", (("", "/a", False), ("/h", "/c", True))),
    ("volumes_from", ["/parent", "other:ro"], "volumes_from", (("parent", False), ("other", True))),
    ("volumes_from", "parent", "volumes_from", (("parent", False),)),
    ("name", "db", "name", "db"),
    ("hostname", "db", "hostname", "db"),
    ("entrypoint", "/init --quick", "entrypoint", ("/init", "--quick")),
    ("working_dir", "", "working_dir", None),
    ("domainname", "", "domainname", None),
    ("mem_limit", "512m", "memory", 512 * 1024**2),
    ("memswap_limit", "0", "memory_and_swap", None),
    ("cpu_shares", "0", "cpu_shares", None),
    ("cpuset", "0-3, 7", "cpuset", "0-3,7"),
    ("network_disabled", "false", "network_disabled", False),
    ("mac_address", "", "mac", None),
]
NESTED = [
    ("Binds", ["/tmp:/tmp", "/h:/c:rw", "/own"], "volumes",
     (("/tmp", "/tmp", False), ("/h", "/c", False), ("", "/own", False))),
    ("Links", ["redis3:redis", "/db"], "links", (("redis3", "redis"), ("db", "db"))),
    ("LxcConf", {"lxc.utsname": "docker"}, "hostname", "docker"),
    ("LxcConf", [{"Key": "lxc.utsname", "Value": "docker"}], "hostname", "docker"),
    ("LxcConf", [], "hostname", None),
    ("PortBindings", {"22/tcp": [{"HostPort": "11022"}], "80": [{"HostIp": "", "HostPort": ""}]},
     "published", (("22/tcp", "11022"), ("80/tcp", ""))),
    ("PublishAllPorts", False, "publish_all", False),
    ("Privileged", True, "privileged", True),
    ("Dns", ["8.8.8.8"], "dns", ("8.8.8.8",)),
    ("DnsSearch", ["", "example.org"], "dns_search", ("example.org",)),
    ("ExtraHosts", ["db:192.0.2.9", "v6:2001:db8::9"], "extra_hosts",
     (("db", "192.0.2.9"), ("v6", "2001:db8::9"))),
    ("VolumesFrom", ["parent", "other:ro"], "volumes_from", (("parent", False), ("other", True))),
    ("CapAdd", ["NET_ADMIN", "CAP_net_raw"], "add_capabilities", ("NET_ADMIN", "NET_RAW")),
    ("CapDrop", ["ALL"], "drop_capabilities", ("ALL",)),
    ("RestartPolicy", {"Name": "", "MaximumRetryCount": "0"}, "restart", "no"),
    ("RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": "3"}, "restart", "on-failure:3"),
    ("RestartPolicy", {"Name": "always"}, "restart", "always"),
    ("NetworkMode", "bridge", "network_mode", "bridge"),
    ("IpcMode", "host", "ipc_mode", "host"),
    ("PidMode", "", "pid_mode", ""),
    ("Devices", [], "devices", ()),
    ("Devices",
     [{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm", "CgroupPermissions": "mrw"}],
     "devices", (("/dev/kvm", "/dev/kvm", "rwm"),)),
    ("Devices", ["/dev/kvm", "/dev/fuse:/dev/f:r"], "devices",
     (("/dev/kvm", "/dev/kvm", "rwm"), ("/dev/fuse", "/dev/f", "r"))),
    ("SecurityOpt", ["label:disable"], "security_options", ("label:disable",)),
    ("ContainerIDFile", "", "unused", None),
    ("Memory", "0", "memory", None),
    ("MemorySwap", "1024m", "memory_and_swap", 1024**3),
    ("CpuShares", "2", "cpu_shares", 2),
    ("CpusetCpus", "", "cpuset", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "field", "wanted"), TAKEN)
def test_key_is_understood(key: str, value: object, field: str, wanted: object) -> None:
    assert getattr(parameters.read({key: value}), field) == wanted


@pytest.mark.parametrize("top", parameters.NESTED)
@pytest.mark.parametrize(("key", "value", "field", "wanted"), NESTED)
def test_key_of_the_host_is_understood(
    top: str, key: str, value: object, field: str, wanted: object
) -> None:
    assert getattr(parameters.read({top: {key: value}}), field) == wanted


def test_no_key_is_left_untried() -> None:
    assert {each[0] for each in TAKEN} == set(parameters.KEYS)
    assert {each[0] for each in NESTED} == set(parameters.HOST_CONFIG)


def test_every_field_is_filled_by_a_key() -> None:
    fields = {each.name for each in dataclasses.fields(parameters.Asked)} - {"keys"}
    tables = (*parameters.KEYS.values(), *parameters.HOST_CONFIG.values())
    assert {field for field, _ in tables} == fields


@pytest.mark.parametrize("key", [*parameters.KEYS, *parameters.NESTED])
def test_null_is_no_wish(key: str) -> None:
    assert parameters.read({key: None, "HostConfig": {"Dns": None}}) == parameters.Asked()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"enviroment": {}}, "'enviroment' .* did you mean environment"),
        ({"hostname ": "a"}, "did you mean hostname"),
        ({"ENV": []}, "did you mean Env"),
        ({"HostConfig": {"Bind": []}}, "did you mean Binds"),
        ({"Binds": []}, "'Binds' is no parameter"),
        ({"runcmd": []}, "cloud-init's begin with #cloud-config"),
        ({"Labels": {"container_stack.owner": "nova-x"}}, "'Labels' is no parameter"),
        ({"x" * 5000: 1}, "is no parameter"),
        ({"HostConfig": []}, "HostConfig .* must be an object"),
        ({"User": ["root"]}, "User .* must be a text"),
        ({"User": "root\nroot"}, "User .* must be"),
        ({"User": "-x"}, "User .* must be"),
        ({"Memory": "-1"}, "Memory .* must be bytes"),
        ({"MemorySwap": "-1"}, "MemorySwap .* must be bytes"),
        ({"Memory": "1" * 5000}, "Memory .* must be bytes"),
        ({"Memory": "٣"}, "Memory .* must be bytes"),
        ({"Memory": True}, "Memory .* must be bytes"),
        ({"CpuShares": "-5"}, "CpuShares .* whole number"),
        ({"CpuShares": "1.5"}, "CpuShares .* whole number"),
        ({"Cpuset": "3-1"}, "Cpuset .* numbers of CPUs"),
        ({"Cpuset": "0-99999999"}, "Cpuset .* numbers of CPUs"),
        ({"Tty": "yes"}, "Tty .* true or false"),
        ({"Tty": "1"}, "Tty .* true or false"),
        ({"Env": ["=x"]}, "Env .* variables with names"),
        ({"Env": "A"}, "Env .* variables with names"),
        ({"Env": [["A"]]}, "Env .* must be a text"),
        ({"environment": {"A=B": "c"}}, "environment .* variables with names"),
        ({"environment": {"A": ["b"]}}, "environment .* must be a text"),
        ({"Cmd": {"a": "b"}}, "Cmd .* must be a text"),
        ({"command": "echo 'a"}, "quotes closed"),
        ({"Hostname": "a b"}, "Hostname .* host's name"),
        ({"Hostname": "a" * 65}, "Hostname .* at most 64"),
        ({"Hostname": "-a"}, "Hostname .* host's name"),
        ({"name": "../x"}, "name .* must be"),
        ({"WorkingDir": "srv"}, "absolute path"),
        ({"WorkingDir": "/srv/../etc"}, r"without //, \. or \.\."),
        ({"Volumes": {"/": {}}}, TARGETS),
        ({"Volumes": {"/proc/sys": {}}}, TARGETS),
        ({"volumes": {"/h": "/dev"}}, TARGETS),
        ({"volumes": {"/h/../etc": "/c"}}, r"without //, \. or \.\."),
        ({"volumes": {"/h/": "/c"}}, "without / at its end"),
        ({"volumes": {"//h": "/c"}}, "without //"),
        ({"volumes": {"named": "/c"}}, "absolute path"),
        ({"volumes": ["/h:/c:rshared"]}, "mode is ro or rw"),
        ({"volumes": ["/h:/c:ro:x"]}, "as /on/host"),
        ({"volumes": {"/h": {"ro": True}}}, "bind"),
        ({"volumes": {"/h": {"bind": "/c", "propagation": "rshared"}}}, "bind"),
        ({"volumes": [{"/h": "/c"}]}, "must be a text"),
        ({"ports": ["0"]}, "as 22/tcp"),
        ({"ports": ["65536"]}, "as 22/tcp"),
        ({"ports": ["22/icmp"]}, "as 22/tcp"),
        ({"dns": ["example.org"]}, "IP addresses"),
        ({"MacAddress": "12:34"}, "MAC address"),
        ({"HostConfig": {"PortBindings": []}}, "PortBindings .* an object"),
        ({"HostConfig": {"PortBindings": {"22/tcp": [{"HostIp": "192.0.2.1"}]}}}, "host ports"),
        ({"HostConfig": {"PortBindings": {"22/tcp": [{"HostPort": "x"}]}}}, "PortBindings"),
        ({"HostConfig": {"Links": ["a b:c"]}}, "as name:alias"),
        ({"HostConfig": {"LxcConf": {"lxc.cap.drop": ""}}}, "lxc.utsname alone"),
        ({"HostConfig": {"ExtraHosts": ["a b:192.0.2.1"]}}, "as name:address"),
        ({"HostConfig": {"ExtraHosts": ["a\n:192.0.2.1"]}}, "as name:address"),
        ({"HostConfig": {"ExtraHosts": ["a:192.0.2.1\n::1 b"]}}, "IP addresses"),
        ({"HostConfig": {"VolumesFrom": ["a:z"]}}, "names of containers"),
        ({"HostConfig": {"CapAdd": ["EVERYTHING"]}}, "names of capabilities"),
        ({"HostConfig": {"CapAdd": "NET_ADMIN SYS_ADMIN"}}, "names of capabilities"),
        ({"HostConfig": {"RestartPolicy": {"Name": "often"}}}, "RestartPolicy"),
        ({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": "3"}}},
         "on-failure, if"),
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/../etc"}]}}, "without //"),
        ({"HostConfig": {"Devices": ["/dev/kvm:/etc/kvm"]}}, "below /dev"),
        ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/kvm", "x": ""}]}}, "PathOnHost"),
        ({"HostConfig": {"Devices": ["/dev/kvm:/dev/kvm:rwx"]}}, "permissions of r, w and m"),
        ({"HostConfig": {"ContainerIDFile": "/etc/x"}}, "no meaning for a server"),
        ({"OnBuild": ["RUN x"]}, "no meaning for a server"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_key(document: dict[str, object], why: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=why) as info:
        parameters.read(document)
    assert len(str(info.value)) < 250


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        ({"Hostname": "a", "hostname": "b"}, ("Hostname", "hostname")),
        ({"Cmd": ["a"], "command": "b"}, ("Cmd", "command")),
        ({"Memory": "1g", "HostConfig": {"Memory": "2g"}}, ("Memory", "Memory")),
        ({"Tty": "true", "tty": "false"}, ("Tty", "tty")),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    document: dict[str, object], keys: tuple[str, str]
) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="{} and {}.*different".format(*keys)):
        parameters.read(document)


def test_keys_that_agree_or_add_to_each_other_are_taken_together() -> None:
    asked = parameters.read(
        {
            "Hostname": "a",
            "hostname": "a",
            "Env": ["A=1", "B=2"],
            "environment": {"B": "3"},
            "Volumes": {"/x": {}},
            "HostConfig": {"Binds": ["/h:/c"], "Dns": ["192.0.2.1"]},
            "host_config": {"Dns": ["192.0.2.1", "192.0.2.2"]},
        }
    )
    assert asked.hostname == "a"
    assert asked.environment == {"A": "1", "B": "3"}
    assert asked.volumes == (("", "/x", False), ("/h", "/c", False))
    assert asked.dns == ("192.0.2.1", "192.0.2.2")
    assert asked.keys["volumes"] == "Binds"


def test_ignored_keys_are_passed_over_wherever_they_are() -> None:
    document = {"Foo": 1, "Memory": "x", "HostConfig": {"Links": "?", "Bar": {}, "Dns": "::1"}}
    asked = parameters.read(document, {"Foo", "Memory", "Links", "Bar"})
    assert asked == parameters.Asked(keys={"dns": "Dns"}, dns=("::1",))
    assert parameters.read(document, {"Foo", "Memory", "HostConfig"}) == parameters.Asked()


ODD = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.text(max_size=8),
        strategies.sampled_from(["/a:/b", "0-3", "22/tcp", "host", "on-failure:9", "a=b", "512m"]),
    ),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(
            strategies.sampled_from(["/a", "22/tcp", "Name", "bind", "HostPort", "PathOnHost"]),
            inner,
        )
    ),
    max_leaves=6,
)


@hypothesis.settings(max_examples=120, deadline=None)
@hypothesis.given(
    strategies.dictionaries(strategies.sampled_from([*parameters.KEYS]), ODD, max_size=2),
    strategies.dictionaries(strategies.sampled_from([*parameters.HOST_CONFIG]), ODD, max_size=2),
)
def test_whatever_the_values_are_there_is_an_answer(
    top: dict[str, object], nested: dict[str, object]
) -> None:
    try:
        asked = parameters.read({**top, "HostConfig": nested})
    except exceptions.InvalidRequest:
        return
    kinds = typing.get_type_hints(parameters.Asked)
    for field in dataclasses.fields(asked):
        value = getattr(asked, field.name)
        assert not isinstance(value, list), field.name
        assert (value is True or value is False) == (kinds[field.name] is bool), field.name
