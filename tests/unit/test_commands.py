# SPDX-License-Identifier: Apache-2.0
"""The catalogue: a command's builder and its filter admit the same, and nothing hostile."""

import re
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies
from oslo_rootwrap import filters as rootwrap_filters
from oslo_rootwrap import wrapper

from container_stack import exceptions
from container_stack.rootwrap import commands, config

STATE = commands.STATE_DIR
COMMANDS = {each.name: each for driver in commands.DRIVERS.values() for each in driver}
_LAYERS = (("0", "-init"), ("a", ""), ("f", ""))
EXAMPLES = {
    "access": "rw",
    "address4": "10.2.3.4/24",
    "address6": "fd00:1::5/64",
    "alone4": "192.0.2.5",
    "alone6": "2001:db8::5",
    "bridge": "br-int",
    "btrfs": f"{STATE}/backends/btrfs",
    "count": "1048576",
    "destination": "192.0.2.0/24",
    "container": "0123456789abcdef" * 4,
    "device": "/dev/loop13",
    "digest": "0123456789abcdef",
    "disk": "/run/container-stack-disks/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "ebs": "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol049df61146c4d7901",
    "export": f"{STATE}/backends/Far.1/export",
    "gateway": "10.2.3.1",
    "group": "manila_docker_volumes",
    "id": "6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "image": f"{STATE}/volumes/3f2a-b.1.img",
    "inbox": f"{STATE}/backends/Fast.1/inbox/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "inside": "eth1",
    "kept": f"{STATE}/backends/Fast.1/volumes/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "layer_diff": f"/var/lib/docker/overlay2/{'0123456789abcdef' * 4}/diff",
    "layer_work": f"/var/lib/docker/overlay2/{'0123456789abcdef' * 4}/work",
    "layers": ":".join(f"/srv/d/overlay2/{digit * 64}{end}/diff" for digit, end in _LAYERS),
    "loop": "/dev/loop13",
    "mac": "02:1a:2b:3c:4d:5e",
    "made_bridge": "csb0123456789ab",
    "mountpoint": f"{STATE}/mounts/server-1/share.2",
    "nfs_data": f"{STATE}/backends/Far.1/local/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/data",
    "nfs_options": "soft,vers=4.2",
    "nfs_root": f"{STATE}/backends/Far.1/export",
    "node": "/dev/vdb",
    "nfs_source": "nas-1.example.org:/srv/volumes_1",
    "place": "vdb",
    "plug": "csp0123456789ab",
    "port": "7f0c6a0e-1d5b-4a3e-9b0e-2f4f1c9d8a7b",
    "port_bridge": "qbr7f0c6a0e-1d",
    "port_inner": "qvb7f0c6a0e-1d",
    "port_outer": "qvo7f0c6a0e-1d",
    "sandbox": "/var/run/docker/netns/0123456789ab",
    "silent": "brq7f0c6a0e-1d",
    "size": "1073741824",
    "snapshot": "vg1/css-snap.1",
    "snapshot_device": "/dev/vg1/css-snap.1",
    "snapshot_name": "css-snap.1",
    "stream": f"{STATE}/streams/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "subvolume": f"{STATE}/backends/Fast.1/volumes/new.6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    "switched": "qvo7f0c6a0e-1d",
    "tag": "container_stack.owner=tenant1",
    "tap": "tap7f0c6a0e-1d",
    "tap_chain": "cs-tap7f0c6a0e-1d-0123abcd",
    "tree": f"{STATE}/mounts",
    "volume": "vg1/cs-volume.1",
    "volume_device": "/dev/vg1/cs-volume.1",
    "volume_name": "cs-volume.1",
    "volume_or_snapshot": "vg1/css-snap.1",
}

#: Values that no command may take.
FOREIGN = (
    "",
    "-",
    "--help",
    "/",
    "/etc",
    "/etc/shadow",
    "/dev/sda",
    "/dev/sda1",
    "/dev/loop",
    "/dev/loop-control",
    "/dev/loop1p1",
    "/dev/mem",
    "/dev/mapper/vg1-root",
    "/dev/vg1/root",
    "/dev/shm/cs-volume",
    "/dev/shm/css-snap",
    "/dev/mqueue/cs-volume",
    "/dev/disk/by-id/cs-x",
    "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol049df61146c4d7901-part1",
    "/dev/xvda",
    "/dev/xvda1",
    "/dev/nvme0n1",
    "/dev//loop1",
    "/dev/./loop1",
    "/dev/vg1/../cs-volume",
    "/dev/../cs-volume/cs-x",
    "vg1/root",
    "/dev/null",
    "/dev/kvm",
    "/dev/vda1",
    "/run/container-stack-disks/..",
    "/run/container-stack-disks/records",
    "/run/container-stack-disks/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/..",
    "/proc/1/ns/net",
    "/proc/self/fd/3",
    "/run/netns/tenant",
    "/run/docker/netns/default",
    "/var/run/docker/netns/../../x",
    "/tmp/volumes/x.img",
    f"{STATE}",
    f"{STATE}/",
    f"{STATE}/mounts/",
    f"{STATE}/mounts/..",
    f"{STATE}/mounts/../x",
    f"{STATE}/mounts/x/../../y",
    f"{STATE}/mounts/./x",
    f"{STATE}/mounts//x",
    f"{STATE}//mounts/x",
    f"{STATE}/mountsx/y",
    f"{STATE}x/mounts/y",
    f"/tmp{STATE}/mounts/y",
    f"/tmp{STATE}/volumes/x.img",
    "/var/lib/containerXstack/mounts/y",
    f"{STATE}/volumes/x.img/y",
    f"{STATE}/volumes/x.json",
    f"{STATE}/volumes/../x.img",
    f"{STATE}/backends",
    f"{STATE}/backends/..",
    f"{STATE}/backends/.x",
    f"{STATE}/backends/x/..",
    f"{STATE}/backends/x/volumes",
    f"{STATE}/backends/x/volumes/..",
    f"{STATE}/backends/x/volumes/name",
    f"{STATE}/backends/x/inbox/..",
    f"{STATE}/backends/x/inbox/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/..",
    f"{STATE}/backends/x/volumes/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/inside",
    f"{STATE}/backends/x/volumes/gone.6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50",
    f"{STATE}/backends/x/export/..",
    f"{STATE}/backends/x/export/6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/data/inside",
    f"{STATE}/backends/x/local/work.0123456789abcdef.6f1d0a52-8a0c-4c7e-9f43-0b1c2d3e4f50/data",
    "nas:/srv/../etc",
    "nas:/srv,exec",
    "nas:srv",
    "soft,suid",
    "soft,vers=4.2,dev",
    f"{STATE}/streams/..",
    f"{STATE}/streams/name",
    "$(reboot)",
    "`reboot`",
    "a|b",
    "*",
    "name=value",
)
EXTRA = ("", "-f", "--force", "-o", "--", "/etc/shadow", "\n", "x")
WRAPPERS = (
    ("env",),
    ("env", "LD_PRELOAD=/tmp/evil.so"),
    ("sudo",),
    ("nsenter", "-t", "1", "-m"),
    ("nsenter", "--net=/run/docker/netns/0123456789ab"),
    ("ip", "netns", "exec", "tenant"),
    ("timeout", "1"),
    ("privsep-helper",),
    ("sh", "-c"),
)
#: A little below what there are: a command may go, a generator must not fall silent.
FLOOR_LINES = 14_000
FLOOR_VALUES = 9_000
WIDE = {"bash", "cat", "chmod", "chown", "dd", "docker", "env", "mv", "rm", "sed", "sh", "tee"}
NARROW_COPY = {"lvm_copy"}  # cp between one volume group's snapshots and volumes


@pytest.fixture(scope="module")
def filters(tmp_path_factory: pytest.TempPathFactory) -> list[rootwrap_filters.CommandFilter]:
    directory = tmp_path_factory.mktemp("rootwrap")
    config.install(directory, commands.DRIVERS, STATE)
    loaded = wrapper.load_filters([str(directory / "rootwrap.d")])
    return [each for each in loaded if each.name != "privsep-helper"]


def fields(command: commands.Command) -> dict[str, str]:
    return dict(re.findall(r"\{(\w+):(\w+)\}", command.template))


def example(command: commands.Command) -> dict[str, str]:
    return {name: EXAMPLES[kind] for name, kind in fields(command).items()}


def argv(command: commands.Command) -> tuple[str, ...]:
    return command.argv(STATE, **example(command))


def unchecked(command: commands.Command, values: dict[str, str]) -> list[str]:
    """Fill a template in as an attacker would who talks to the daemon himself."""
    return [
        re.sub(r"\{(\w+):\w+\}", lambda match: values[match[1]], word)
        for word in command.template.split()
    ]


def builds(command: commands.Command, values: dict[str, str]) -> bool:
    try:
        command.argv(STATE, **values)
    except exceptions.InvalidRequest:
        return False
    return True


def admitted(
    filters: list[rootwrap_filters.CommandFilter], line: list[str] | tuple[str, ...]
) -> list[str]:
    # What two drivers may do stands in two files.
    return sorted({each.name for each in filters if each.match(list(line))})


def spoiled(value: str) -> Iterator[str]:
    """Yield what must never pass for a good value."""
    yield from (value + "\n", "\n" + value, value + "\0", "\0" + value, value + "\r")
    yield from (value + " ", " " + value, value + "\t", value + ",x", "," + value)
    yield from ("-" + value, "--" + value, value + "/..", value + "/../x", "../" + value)
    yield from (value + "é", "\N{ZERO WIDTH SPACE}" + value, value + "\N{COMBINING ACUTE ACCENT}")
    yield from (value + ";x", value + "|x", value + "$x", value + "\\", value + "'", value + '"')
    for digit in sorted(set(re.findall("[0-9]", value))):
        yield value.replace(digit, chr(0x660 + int(digit)))  # Arabic-Indic
        yield value.replace(digit, chr(0xFF10 + int(digit)))  # full width
    for latin, other in (("a", "\u0430"), ("o", "\u043e"), ("s", "\u017f"), ("k", "\u212a")):
        if latin in value:
            yield value.replace(latin, other)


def shape_of(command: commands.Command) -> list[str]:
    return command.filter(STATE).split(", ")[3:]


def mutants(command: commands.Command) -> Iterator[list[str]]:
    """Yield command lines that are near a good one, and that nothing may admit."""
    good, shapes = list(argv(command)), shape_of(command)
    for i, word in enumerate(good):
        yield good[:i] + good[i + 1 :]
        yield good[: i + 1] + good[i:]
        yield from ([*good[:i], bad, *good[i + 1 :]] for bad in spoiled(word))
        yield from ([*good[:i], bad, *good[i:]] for bad in EXTRA)
        if i + 1 < len(good) and not (
            re.match(shapes[i], good[i + 1]) and re.match(shapes[i + 1], word)
        ):
            yield [*good[:i], good[i + 1], word, *good[i + 2 :]]
        if shapes[i] == re.escape(word) + r"\Z" and word.swapcase() != word:
            yield [*good[:i], word.swapcase(), *good[i + 1 :]]
    yield from ([*good, bad] for bad in EXTRA)
    yield from ([*prefix, *good] for prefix in WRAPPERS)
    yield ["sh", "-c", " ".join(good)]
    program = good[0]
    for place in ("/tmp/evil/", "./", "../", "/", "/usr/local/bin/", "/usr/sbin/"):
        yield [place + program, *good[1:]]
    yield [" ".join(good)]
    yield []


def test_there_is_an_example_of_every_kind_and_a_command_for_every_name():
    assert set(EXAMPLES) == set(commands.KINDS)
    assert len(COMMANDS) == len({each for driver in commands.DRIVERS.values() for each in driver})
    assert all(len(driver) == len(set(driver)) for driver in commands.DRIVERS.values())


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_matches_its_own_filter_and_no_other(command, filters):
    assert admitted(filters, argv(command)) == [command.name]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_value_is_written_in_a_way_that_a_filters_file_breaks(command):
    line = command.filter(STATE)
    assert line.count(", ") == line.count(",") == len(argv(command)) + 2
    for shape in shape_of(command):
        assert shape.endswith(r"\Z")
        assert re.compile(shape)
        assert r"\d" not in shape
        assert r"\w" not in shape


def test_no_hostile_command_line_is_admitted(filters):
    # A word less may make another good command: `resize2fs DEVICE SIZE`, `resize2fs DEVICE`.
    good = {argv(command) for command in COMMANDS.values()}
    lines = [
        line
        for command in COMMANDS.values()
        for line in mutants(command)
        if tuple(line) not in good
    ]
    assert [line for line in lines if admitted(filters, line)] == []
    assert len(lines) >= FLOOR_LINES


def test_no_hostile_value_is_taken_by_a_builder_or_its_filter(filters):
    count, taken = 0, []
    for command in COMMANDS.values():
        good = example(command)
        for name, kind in fields(command).items():
            hostile = [*spoiled(good[name]), *FOREIGN]
            if "A-Z" not in commands.KINDS[kind] and good[name].upper() != good[name]:
                hostile.append(good[name].upper())
            for bad in hostile:
                count += 1
                values = {**good, name: bad}
                if builds(command, values) or admitted(filters, unchecked(command, values)):
                    taken.append((command.name, name, bad))
    assert taken == []
    assert count >= FLOOR_VALUES


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_can_do_anything_to_any_file(command):
    assert command.program not in WIDE
    assert command.program != "cp" or command.name in NARROW_COPY
    words = command.template.split()
    assert not {"-c", "exec", "-batch", "-b"}.intersection(words)
    assert all("/" not in word or "{" in word or word.startswith("/sbin/") for word in words)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_missing_and_unknown_values_are_refused(command):
    values = example(command)
    with pytest.raises(exceptions.InvalidRequest, match="unknown"):
        command.argv(STATE, **values, surprise="x")
    for name in values:
        with pytest.raises(exceptions.InvalidRequest, match=name):
            command.argv(STATE, **{key: value for key, value in values.items() if key != name})


def test_only_a_driver_that_has_ebs_may_touch_it():
    loop, disk = EXAMPLES["device"], EXAMPLES["ebs"]
    assert commands.fs.on(loop, commands.fs.MAKE_XFS) is commands.fs.MAKE_XFS
    made = commands.fs.on(disk, commands.fs.MAKE_XFS)
    assert made.argv(STATE, device=disk) == ("mkfs.xfs", "-q", disk)
    assert made in commands.DRIVERS["osd"]
    assert not any("ebs" in fields(each).values() for each in commands.DRIVERS["manila"])
    with pytest.raises(exceptions.InvalidRequest):
        commands.fs.on(disk, commands.fs.MAKE_BTRFS).argv(STATE, device=disk)


#: Links of a host's own.
LINKS = ("eth0", "docker0", "br-int", "tap0", "csb0", "qbr", "lo", "all", "tap7f0c6a0e", "default")


def test_only_links_that_are_made_for_ports_are_made_removed_and_changed():
    taken = []
    for command in commands.ports.ALL:
        for name, kind in fields(command).items():
            if kind not in ("bridge", "port"):
                for link in LINKS:
                    if builds(command, {**example(command), name: link}):
                        taken.append((command.name, name, link))
    inside = ("inside", "eth0")
    assert [each for each in taken if each[1:] != inside] == []


BELOW_STATE = {name: each for name, each in COMMANDS.items() if STATE in " ".join(argv(each))}


@pytest.mark.parametrize("command", BELOW_STATE.values(), ids=BELOW_STATE)
def test_filters_of_one_state_directory_refuse_paths_of_another(command):
    line = argv(command)
    there = [word.replace(STATE, "/srv/shares") for word in line]
    own = rootwrap_filters.RegExpFilter(
        command.program, "root", *command.filter("/srv/shares").split(", ")[3:]
    )
    assert own.match(there)
    assert not own.match(list(line))


@pytest.mark.parametrize(
    "state_dir",
    [
        *("", "/", "relative", "/a/../b", "/a/..", "/a b", "/a,b", "/a\n", "/a/", "/a/./b"),
        *("/ä", "/a$", "/a|b", "/a(b", "/a*", "/a\\b", "/a%b", "//a", "/a\0"),
    ],
)
def test_a_state_directory_that_would_break_a_filter_is_refused(state_dir):
    with pytest.raises(exceptions.InvalidRequest, match="state directory"):
        commands.loop.ATTACH.filter(state_dir)
    with pytest.raises(exceptions.InvalidRequest):
        commands.loop.ATTACH.argv(state_dir, file=f"{state_dir}/volumes/x.img")


def values_near(command: commands.Command) -> strategies.SearchStrategy[dict[str, str]]:
    text = strategies.text(strategies.characters(), max_size=12)

    def near(kind: str) -> strategies.SearchStrategy[str]:
        good = EXAMPLES[kind]
        shape = commands.KINDS[kind].replace("<state>", re.escape(STATE))
        cut = strategies.integers(0, len(good))
        return strategies.one_of(
            text,
            strategies.just(good),
            strategies.from_regex(shape),
            strategies.from_regex(shape, fullmatch=True),
            strategies.builds(lambda at, new: good[:at] + new + good[at:], cut, text),
            strategies.builds(lambda at, new: good[:at] + new + good[at + 1 :], cut, text),
        )

    kinds = fields(command).items()
    return strategies.fixed_dictionaries({name: near(kind) for name, kind in kinds})


@hypothesis.given(strategies.data())
@hypothesis.settings(max_examples=600, deadline=None)
def test_builder_and_filter_agree_on_any_value(filters, data):
    command = data.draw(strategies.sampled_from(list(COMMANDS.values())))
    values = data.draw(values_near(command))
    line = unchecked(command, values)
    names = admitted(filters, line)
    if builds(command, values):
        assert list(command.argv(STATE, **values)) == line
        assert names == [command.name]
    else:
        assert names == []
