# SPDX-License-Identifier: Apache-2.0
"""The file system in an image: its layers merged, and what no account's layer may have."""

import io
import struct
import tarfile
from collections.abc import Sequence

import pytest

from container_stack import exceptions
from container_stack.host.image_archive import layers
from container_stack.host.image_archive.tar import Kind
from container_stack.storlets.image import archive, tree
from container_stack.testing import image_archives

LINK, HARD = image_archives.symlink, image_archives.hard_link
CAPABILITY = struct.pack("<IIIII", 0x02000001, 0x2000, 0, 0, 0)


def merged(*files: image_archives.Files, trusted: int = 0) -> tree.Tree:
    data = image_archives.build(files)
    found = archive.ImageArchive.open(io.BytesIO(data), len(data))
    found.check_digests()
    return found.tree(trusted=trusted)


def refusal(*files: image_archives.Files, trusted: int = 0) -> str:
    with pytest.raises(exceptions.InvalidRequest) as info:
        merged(*files, trusted=trusted)
    assert len(str(info.value)) < 500
    return str(info.value)


def names(made: tree.Tree) -> list[str]:
    return [name for name, _ in made.walk() if name != "/"]


def attributes(name: str, value: bytes, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    text = value.decode("utf-8", "surrogateescape")
    return image_archives.special(kind, pax_headers={f"SCHILY.xattr.{name}": text})


def test_upper_layer_wins() -> None:
    made = merged(
        {"etc/": b"", "etc/a": b"old", "etc/b": b"kept", "old": b"x"},
        {"etc/a": image_archives.program(b"newer", 0o750), "etc/c": b"added"},
    )
    assert made.read("/etc/a", 100) == b"newer"
    assert made.read("/etc/b", 2) == b"ke"
    assert made.listdir("/etc") == ["a", "b", "c"]
    entry = made.find("/etc/a")
    assert entry is not None
    assert (entry.mode, entry.size, entry.layer, entry.executable) == (0o750, 5, 1, True)
    assert [each.layer for _, each in made.walk()] == [0, 0, 1, 0, 1, 0]


def test_whiteout_removes_what_is_below() -> None:
    made = merged(
        {"a/x": b"1", "a/y": b"2", "b": b"3"},
        {"a/.wh.x": b"", ".wh.b": b"", ".wh.never": b""},
    )
    assert names(made) == ["/a", "/a/y"]
    assert made.find("/a/x") is None


def test_what_was_removed_may_come_back() -> None:
    made = merged({"a/x": b"1"}, {".wh.a": b""}, {"a": b"a file now"})
    assert made.read("/a", 100) == b"a file now"


def test_opaque_directory_hides_what_is_below() -> None:
    made = merged(
        {"a/": b"", "a/x": b"1", "a/d/y": b"2", "a/e/z": b"3", "b": b""},
        {"a/": b"", "a/+": b"4", "a/.wh..wh..opq": b"", "a/d/": b"", "a/d/new": b"5"},
    )
    assert names(made) == ["/a", "/a/+", "/a/d", "/a/d/new", "/b"]


def test_directory_and_file_replace_each_other() -> None:
    made = merged({"a/x": b"1", "b": b"2"}, {"a": b"3", "b/": b"", "b/y": b"4"})
    assert names(made) == ["/a", "/b", "/b/y"]
    assert made.read("/a", 9) == b"3"


def test_directory_that_is_there_again_keeps_what_is_in_it() -> None:
    new = image_archives.special(tarfile.DIRTYPE, mode=0o700)
    made = merged({"./": b"", "a/": b"", "a/x": b"1"}, {"./": b"", "./a": new})
    assert names(made) == ["/a", "/a/x"]
    entry = made.find("/a")
    assert entry is not None
    assert entry.mode == 0o700


def test_hard_link_is_the_file() -> None:
    made = merged({"a/x": image_archives.program(b"tool"), "b": HARD("a/x"), "c": HARD("./b")})
    assert made.read("/c", 100) == b"tool"
    assert [each.kind for _, each in made.walk() if each.size] == [Kind.FILE] * 3


def test_hard_link_gives_the_file_its_permissions() -> None:
    link = image_archives.special(tarfile.LNKTYPE, linkname="a", mode=0o4711)
    made = merged({"a": b"x", "b": link})
    assert [each.mode for _, each in made.walk()] == [0o755, 0o4711, 0o4711]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/bin/tool", b"tool"),
        ("bin//./tool", b"tool"),
        ("/bin/../../usr/bin/tool", b"tool"),
        ("/usr/bin/up", b"tool"),
        ("/../../../outside", b"tool"),
        ("/chain0", b"tool"),
        ("/usr/bin/tool/", None),
        ("/usr/bin/tool/..", None),
        ("/usr/bin/tool/../tool", None),
        ("/loop", None),
        ("/loop/x", None),
        ("/many0", None),
        ("/dangling", None),
        ("/bin", None),
        ("/", None),
        ("", None),
        ("/none/../bin/tool", None),
    ],
)
def test_links_are_followed_inside_the_image(path: str, content: bytes | None) -> None:
    files: dict[str, image_archives.Content] = {
        "bin": LINK("usr/bin"),
        "usr/bin/tool": b"tool",
        "usr/bin/up": LINK("../../../../../usr/bin/tool"),
        "outside": LINK("/../../bin/tool"),
        "loop": LINK("/loop"),
        "dangling": LINK("/nowhere"),
    }
    # Forty in all, as Linux has it: these, "outside" and "bin".
    files |= {f"chain{n}": LINK(f"chain{n + 1}") for n in range(37)} | {"chain37": LINK("outside")}
    files |= {f"many{n}": LINK(f"many{n + 1}") for n in range(41)} | {"many41": b"too far"}
    made = merged(files)
    if content is None:
        with pytest.raises(exceptions.NotFound):
            made.read(path, 100)
    else:
        assert made.read(path, 100) == content


def test_link_that_doubles_itself_ends() -> None:
    """Each of these leads to the next one a hundred times."""
    files = {f"l{n}": LINK("/".join([f"l{n + 1}"] * 100)) for n in range(50)}
    assert merged(files).find("/l0") is None


def test_only_directories_are_listed() -> None:
    made = merged({"a/x": b"1", "b": LINK("a")})
    assert made.listdir("/b") == ["x"]
    for path in ("/a/x", "/none"):
        with pytest.raises(exceptions.NotFound):
            made.listdir(path)


def test_who_gets_rights_of_others_is_told() -> None:
    made = merged(
        {
            "su": image_archives.program(b"", 0o4755),
            "write": image_archives.program(b"", 0o2755),
            "tmp": image_archives.special(tarfile.DIRTYPE, mode=0o3777),
            "ping": attributes("security.capability", CAPABILITY),
            "plain": b"",
        }
    )
    told = [name for name, entry in made.walk() if entry.privileged]
    assert told == ["/ping", "/su", "/write"]


def test_base_may_have_what_an_account_may_not() -> None:
    base = {
        "./": b"",
        "./dev/null": image_archives.device(),
        "/etc/absolute": b"1",
        "odd\nname": b"2",
        "user": attributes("user.mime", b"text"),
    }
    made = merged(base, {"opt/ours": b"3"}, trusted=1)
    assert made.read("/etc/absolute", 9) == b"1"
    entry = made.find("/dev/null")
    assert entry is not None
    assert entry.kind is Kind.CHARACTER_DEVICE
    with pytest.raises(exceptions.NotFound):
        made.read("/dev/null", 9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dev/null", image_archives.device()),
        ("dev/sda", image_archives.device(8, 0, tarfile.BLKTYPE)),
        ("/etc/absolute", b"1"),
        ("odd\nname", b"2"),
        ("odd\x1b[2Jname", b"2"),
        ("link", LINK("odd\nname")),
        ("user", attributes("user.mime", b"text")),
        ("directory", attributes("trusted.overlay.opaque", b"y", tarfile.DIRTYPE)),
        ("short", attributes("security.capability", b"\1\0\0\2")),
        ("other", attributes("security.capability", bytes(20))),
        ("d", attributes("security.capability", CAPABILITY, tarfile.DIRTYPE)),
    ],
)
def test_account_may_not_have_what_the_base_may(name: str, content: image_archives.Content) -> None:
    assert ascii(name)[:-1] in refusal({"base": b""}, {name: content}, trusted=1)


@pytest.mark.parametrize("trusted", [0, 2])
@pytest.mark.parametrize(
    "files",
    [
        pytest.param([("../outside", b"x")], id="above the root"),
        pytest.param([("a/../../outside", b"x")], id="above the root by a detour"),
        pytest.param([("a/../b", b"x")], id="a detour"),
        pytest.param([("..", image_archives.special(tarfile.DIRTYPE))], id="the root's parent"),
        pytest.param([("", b"x")], id="no name"),
        pytest.param([(".", b"x")], id="the root is a file"),
        pytest.param([("./", LINK("/etc"))], id="the root is a link"),
        pytest.param([("n" * 256, b"x")], id="name too long"),
        pytest.param([("/".join(["d" * 100] * 11), b"x")], id="path too long"),
        pytest.param([("/".join(["d"] * 129), b"x")], id="path too deep"),
        pytest.param([("hard", HARD("../../etc/passwd"))], id="hard link outward"),
        pytest.param([("hard", HARD("nothing"))], id="hard link to nothing"),
        pytest.param([("hard", HARD("hard"))], id="hard link to itself"),
        pytest.param([("hard", HARD(""))], id="hard link nowhere"),
        pytest.param([("hard", HARD("lower"))], id="hard link to a lower layer"),
        pytest.param([("d/", b""), ("hard", HARD("d"))], id="hard link to a directory"),
        pytest.param([("hard", HARD("link/x"))], id="hard link through a symbolic one"),
        pytest.param([("link2", LINK(""))], id="symbolic link nowhere"),
        pytest.param([("link2", LINK("t" * 1025))], id="symbolic link too long"),
        pytest.param([("link/x", b"x")], id="through a lower symbolic link"),
        pytest.param([("l", LINK("/etc")), ("l/x", b"x")], id="through a symbolic link"),
        pytest.param([("lower/x", b"x")], id="below a file"),
        pytest.param([("a", b"1"), ("a", b"2")], id="twice"),
        pytest.param([("a", b"1"), ("./a", b"2")], id="twice in other words"),
        pytest.param([("d/", b""), ("d/", b"")], id="a directory twice"),
        pytest.param([("d/x", b""), ("d", b"")], id="a directory and a file"),
        pytest.param([("d/x", b""), (".wh.d", b"")], id="written and removed"),
        pytest.param([(".wh.d", b""), ("d", b"")], id="removed and written"),
        pytest.param([(".wh.d", b""), ("d/x", b"")], id="removed and written below"),
        pytest.param([(".wh.d", b""), ("./.wh.d", b"")], id="removed twice"),
        pytest.param([("d/.wh..wh..opq", b"")] * 2, id="hidden twice"),
        pytest.param([(".wh.", b"")], id="whiteout of nothing"),
        pytest.param([("d/.wh..", b"")], id="whiteout of its directory"),
        pytest.param([("d/.wh...", b"")], id="whiteout of the parent"),
        pytest.param([(".wh..wh.x", b"")], id="whiteout of a whiteout"),
        pytest.param([(".wh..wh.plnk/x", b"")], id="what aufs keeps"),
        pytest.param([(".wh.d/x", b"")], id="below a whiteout"),
        pytest.param([(".wh.x", b"content")], id="whiteout with content"),
        pytest.param([(".wh.x", LINK("lower"))], id="whiteout that is a link"),
        pytest.param([("link/.wh.x", b"")], id="whiteout through a symbolic link"),
        pytest.param([("link/.wh..wh..opq", b"")], id="hiding through a symbolic link"),
        pytest.param([("lower/.wh..wh..opq", b"")], id="hiding in a file"),
        pytest.param([("sparse", image_archives.special(tarfile.GNUTYPE_SPARSE))], id="sparse"),
        pytest.param([("BZh", b"")], id="what an engine takes for bzip2"),
    ],
)
def test_layer_that_engines_unpack_differently_is_refused(
    files: Sequence[tuple[str, image_archives.Content]], trusted: int
) -> None:
    lower = {"lower": b"1", "etc/x": b"2", "link": LINK("etc")}
    layer = image_archives.archive(files, tarfile.GNU_FORMAT)
    made = image_archives.build([lower, layer])
    with pytest.raises(exceptions.InvalidRequest) as info:
        archive.ImageArchive.open(io.BytesIO(made), len(made)).tree(trusted=trusted)
    assert len(str(info.value)) < 500


def test_layers_know_no_more_than_the_bounds_say() -> None:
    deepest = "/".join(["d"] * layers.DEPTH)
    assert merged({deepest: b"x"}).read(deepest, 9) == b"x"
    longest = "n" * layers.PART
    assert names(merged({longest: b""})) == ["/" + longest]
