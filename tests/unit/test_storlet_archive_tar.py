# SPDX-License-Identifier: Apache-2.0
"""Headers of tar archives: as every reader understands them, or not at all."""

import contextlib
import io
import struct
import tarfile
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.host.image_archive import tar
from container_stack.testing import image_archives

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
END = bytes(1024)


def read(data: bytes) -> list[tar.Header]:
    return list(tar.headers(tar.Source(io.BytesIO(data), len(data)), 0, len(data)))


def refusal(data: bytes) -> str:
    with pytest.raises(exceptions.InvalidRequest) as info:
        read(data)
    return str(info.value)


def block(kind: bytes = b"0", form: int = tarfile.GNU_FORMAT, **fields: object) -> bytes:
    """Return one header."""
    member = image_archives.special(kind, **{"name": "name", **fields})
    return member.tobuf(form)


def edited(data: bytes, offset: int, value: bytes) -> bytes:
    """Return a header with other bytes in it, and the checksum that belongs to them."""
    made = bytearray(data)
    made[offset : offset + len(value)] = value
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:512])
    return bytes(made)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    """Return a pax header with these records, as they are."""
    text = b"".join(records)
    return block(kind, name="pax", size=len(text)) + padded(text)


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size, key, value)


NAMES = strategies.text(
    strategies.characters(blacklist_characters="\0", blacklist_categories=["Cs"]),
    min_size=1,
    max_size=200,
).filter(lambda name: not name.endswith("/"))
MEMBERS = strategies.lists(
    strategies.tuples(
        NAMES,
        strategies.sampled_from(list(tar.Kind)),
        strategies.integers(0, 0o7777),
        strategies.integers(0, 2**32 - 2),
        strategies.binary(max_size=1200),
        NAMES,
    ),
    max_size=5,
)


@hypothesis.given(MEMBERS, strategies.sampled_from(FORMS))
@hypothesis.settings(deadline=None, max_examples=200)
def test_what_is_written_is_read(
    members: list[tuple[str, tar.Kind, int, int, bytes, str]], form: int
) -> None:
    entries = []
    for name, kind, mode, uid, content, target in members:
        content = content if kind is tar.Kind.FILE else b""
        is_link = kind in (tar.Kind.SYMLINK, tar.Kind.HARD_LINK)
        linkname = target if is_link else ""
        member = image_archives.special(
            kind.value, mode=mode, uid=uid, gid=uid // 2, size=len(content), linkname=linkname
        )
        entries.append((name, (member, content)))
    try:
        data = image_archives.archive(entries, form)
    except ValueError:
        # This form can't hold that name or number.
        hypothesis.reject()
    found = read(data)
    assert len(found) == len(members)
    for header, (name, (member, content)) in zip(found, entries, strict=True):
        is_directory = header.kind is tar.Kind.DIRECTORY
        assert (header.name.rstrip("/") if is_directory else header.name) == name
        assert (header.kind.value, header.mode) == (member.type, member.mode)
        assert (header.uid, header.gid, header.target) == (member.uid, member.gid, member.linkname)
        assert data[header.offset :][: header.size] == content


@hypothesis.given(strategies.data())
@hypothesis.settings(deadline=None, max_examples=300)
def test_what_is_accepted_tarfile_understands_alike(data: strategies.DataObject) -> None:
    """However an archive is damaged: refused, or read as by others."""
    form = data.draw(strategies.sampled_from(FORMS))
    made = bytearray(
        image_archives.archive(
            [
                ("directory/", b""),
                ("directory/" + 95 * "n", b"content" * 100),
                ("link", image_archives.symlink(120 * "t" if form else "target")),
                ("tool", image_archives.program(b"#!")),
            ],
            form,
        )[:8192]
    )
    for _ in range(data.draw(strategies.integers(1, 4))):
        offset = data.draw(strategies.integers(0, len(made) - 13))
        value = data.draw(strategies.binary(min_size=1, max_size=12))
        made[offset : offset + len(value)] = value
        start = offset // 512 * 512
        if made[start + 257 : start + 262] == b"ustar":
            made[start:] = edited(bytes(made[start:]), 0, bytes(made[start : start + 1]))
    with contextlib.suppress(exceptions.InvalidRequest):
        found = read(bytes(made))
        with tarfile.open(fileobj=io.BytesIO(made), encoding="utf-8") as other:
            members = other.getmembers()
        assert [(each.name.rstrip("/"), each.kind.value) for each in found] == [
            (each.name.rstrip("/"), b"0" if each.type == b"\0" else each.type) for each in members
        ]
        assert [(each.size, each.mode) for each in found] == [
            (each.size, each.mode & 0o7777) for each in members
        ]
        assert [each.target for each in found if each.target] == [
            each.linkname for each in members if each.linkname
        ]
        files = [each for each in members if each.isreg()]
        offsets = [each.offset for each in found if each.kind is tar.Kind.FILE]
        assert offsets == [each.offset_data for each in files]


def test_long_names_are_read_in_both_ways() -> None:
    content = {"d/" + 300 * "n": b"1", "link": image_archives.symlink(300 * "t")}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        first, second = read(image_archives.archive(content, form))
        assert (first.name, second.target) == ("d/" + 300 * "n", 300 * "t")


def test_name_of_any_bytes_is_kept() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert [each.name for each in read(block(name=name) + END)] == [name]


def test_large_numbers_as_gnu_writes_them_are_read() -> None:
    (header,) = read(block(uid=2**31 + 5, mtime=2**40) + END)
    assert header.uid == 2**31 + 5


def test_extended_attributes_are_told() -> None:
    records = record(b"SCHILY.xattr.security.capability", b"\1\0\0\2=\n\xff")
    (header,) = read(pax(records, record(b"LIBARCHIVE.creationtime", b"5")) + block() + END)
    assert {name: value.encode("utf-8", "surrogateescape") for name, value in
            header.attributes.items()} == {"security.capability": b"\1\0\0\2=\n\xff"}  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(block()[:100] + b"\1" + block()[101:], id="wrong checksum"),
        pytest.param(edited(block(), 257, bytes(8)), id="before POSIX"),
        pytest.param(edited(block(), 257, b"ustar\0\0\0"), id="no version"),
        pytest.param(edited(block(), 345, b"prefix"), id="prefix in GNU's form"),
        pytest.param(edited(block(form=tarfile.USTAR_FORMAT), 508, b"tar\0"), id="star's form"),
        pytest.param(edited(block(), 124, b"-0000000001\0"), id="negative size"),
        pytest.param(edited(block(), 124, b"\xff" * 12), id="negative size in base 256"),
        pytest.param(edited(block(), 124, b"\x80" + b"\xff" * 11), id="huge size in base 256"),
        pytest.param(edited(block(), 124, b"\x80" + bytes(7) + b"\0\0\xff\xff"), id="cut off"),
        pytest.param(edited(block(), 124, b"0x00000000\0\0"), id="size in hexadecimal"),
        pytest.param(edited(block(), 124, b"1_000000000\0"), id="size as Python writes it"),
        pytest.param(edited(block(), 124, b"0000\x000000001"), id="digits after the end"),
        pytest.param(edited(block(), 100, b"zzzzzzz\0"), id="mode"),
        pytest.param(edited(block(), 108, b"8888888\0"), id="user"),
        pytest.param(edited(block(), 108, b"\x80\0\0\0\xff\xff\xff\xff"), id="user -1"),
        pytest.param(edited(block(), 136, b"zzzzzzzzzzz\0"), id="time"),
        pytest.param(edited(block(), 329, b"zzzzzzz\0"), id="major number"),
        pytest.param(block(name="directory/"), id="file named as a directory"),
        pytest.param(block(b"2", linkname="t", size=3) + padded(b"123"), id="link with content"),
        pytest.param(block(b"5", size=3) + padded(b"123"), id="directory with content"),
        pytest.param(block(b"7"), id="contiguous file"),
        pytest.param(block(b"S"), id="sparse file"),
        pytest.param(block(b"V"), id="volume header"),
        pytest.param(pax(record(b"path", b"x"), kind=b"g") + block(), id="global header"),
        pytest.param(pax(record(b"path", b"x"), kind=b"X") + block(), id="Solaris header"),
        pytest.param(pax(record(b"path", b"a\0b")) + block(), id="NUL in a name"),
        pytest.param(pax(record(b"path", b"")) + block(), id="no name"),
        pytest.param(pax(record(b"path", b"a"), record(b"path", b"b")) + block(), id="two names"),
        pytest.param(pax(record(b"size", b"-1")) + block(), id="negative size in pax"),
        pytest.param(pax(record(b"size", b"1e3")) + block(), id="real size in pax"),
        pytest.param(pax(record(b"size", "\u0661".encode())) + block(), id="Arabic digits"),
        pytest.param(pax(record(b"size", b"9" * 400)) + block(), id="huge size in pax"),
        pytest.param(pax(record(b"mtime", b"yesterday")) + block(), id="time in pax"),
        pytest.param(pax(record(b"hdrcharset", b"BINARY")) + block(), id="another charset"),
        pytest.param(pax(record(b"GNU.sparse.map", b"0,1")) + block(), id="sparse 0.1"),
        pytest.param(pax(record(b"GNU.sparse.major", b"1")) + block(), id="sparse 1.0"),
        pytest.param(pax(b"9 path=x") + block(), id="record beyond the end"),
        pytest.param(pax(b"9 path=ab\n") + block(), id="record without newline"),
        pytest.param(pax(b"0 path=x\n") + block(), id="record of no length"),
        pytest.param(pax(b"3 path=x\n") + block(), id="record shorter than its key"),
        pytest.param(pax(b"9999999999 path=x\n") + block(), id="record of any length"),
        pytest.param(pax(b"path=x\n") + block(), id="record without length"),
        pytest.param(pax(record(b"path", b"x"), b"\0\0\0") + block(), id="rest after records"),
        pytest.param(pax() + pax() + block(), id="two extensions"),
        pytest.param(block(b"L", size=2) + padded(b"a\0") + pax() + block(), id="both forms"),
        pytest.param(pax(record(b"path", b"x")), id="extension of nothing"),
        pytest.param(block(b"L", size=2**20 + 1) + bytes(2**20 + 512) + block(), id="long name"),
        pytest.param(block(b"L", size=9) + b"unfinishe" + bytes(503) + block(), id="unended name"),
        pytest.param(pax(record(b"path", b"n" * 4096)) + block(), id="longer than any path"),
        pytest.param(block() + bytes(512) + block(), id="goes on after its end"),
    ],
)
def test_what_readers_understand_differently_is_refused(data: bytes) -> None:
    assert len(refusal(data + END)) < 300


def test_chain_of_extensions_is_refused_at_once() -> None:
    """Python's tarfile would call itself for each of them."""
    refusal(pax(record(b"comment", b"x")) * 100_000 + block() + END)


@pytest.mark.parametrize("change", [bytes, lambda data: data[:-1], lambda data: data[:-512]])
def test_archive_without_its_end_is_refused(change: Callable[[bytes], bytes]) -> None:
    whole = block(size=5) + padded(b"12345")
    assert read(whole + END)
    assert "cut off" in refusal(change(whole + END)[: -512 if change is bytes else None])


def test_source_reads_on_when_the_file_gives_less() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))

    source = tar.Source(Slow(b"0123456789"), 10)
    assert source.read(1, 8) == b"12345678"
    assert b"".join(source.chunks(2, 7, 4)) == b"2345678"
    with pytest.raises(exceptions.InvalidRequest, match="cut off"):
        source.read(5, 6)


def test_fields_are_where_the_standard_has_them() -> None:
    """https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html, ustar format."""
    data = struct.pack(
        "100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x",
        *(b"last", b"0004755\0", b"0000001\0", b"0000002\0", b"00000000003\0", b"00000000004\0"),
        *(b"", b"0", b"", b"ustar\0", b"00", b"user", b"group", b"0000000\0", b"0000000\0"),
        b"first",
    )
    (header,) = read(edited(data, 0, b"l") + padded(b"abc") + END)
    assert (header.name, header.mode, header.uid, header.gid) == ("first/last", 0o4755, 1, 2)
    assert (header.size, header.offset) == (3, 512)
