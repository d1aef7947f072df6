# SPDX-License-Identifier: Apache-2.0
"""The file system that an image's layers make together, without unpacking any."""

import dataclasses
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host.image_archive import layers, tar
from container_stack.host.image_archive.layers import Effect
from container_stack.host.image_archive.tar import Kind

#: Symbolic links on the way to a file, as in Linux.
LINKS = 40

_SET_ID = 0o6000
_OPPOSITE = {Effect.WRITES: Effect.REMOVES, Effect.REMOVES: Effect.WRITES}


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or whatever else is in an image; a hard link is what it is a link to.

    :param mode: permissions with setuid, setgid and sticky bits.
    :param size: bytes of a file.
    :param target: where a symbolic link leads, as written.
    :param layer: which layer it comes from; the base's first is 0.
    :param capabilities: the file has capabilities of its own.
    :param offset: where in the archive a file's bytes begin.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    layer: int
    capabilities: bool
    offset: int

    @property
    def executable(self) -> bool:
        """Whether anybody may run it."""
        return self.kind is Kind.FILE and bool(self.mode & 0o111)

    @property
    def privileged(self) -> bool:
        """Whether who runs it gets rights of another's."""
        return self.kind is Kind.FILE and (bool(self.mode & _SET_ID) or self.capabilities)


class Node:
    """An entry and, in a directory, what is below; hard links share one."""

    __slots__ = ("children", "entry", "touched")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.children: dict[str, Node] = {}
        #: The last layer that has it, or something below it.
        self.touched = entry.layer


_IMPLIED = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0, "", 0, False, 0)


class Tree:
    """A merged file system. Names are absolute, with "/"; symbolic links never lead out of it.

    :param entries: how many may be in it, and in all layers together.
    """

    def __init__(self, source: tar.Source, entries: int) -> None:
        self._source = source
        self._left = entries
        self._root = Node(_IMPLIED)
        #: What the layer that is being applied has done so far.
        self._seen: set[tuple[Effect, tuple[str, ...]]] = set()

    def find(self, path: str) -> Entry | None:
        """Return what a name leads to, symbolic links followed; None when it leads nowhere."""
        node = self._find(path)
        return node.entry if node else None

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's content, or the beginning of it.

        :param limit: bytes, at most.
        :raises NotFound: there is no such file.
        """
        entry = self.find(path)
        if entry is None or entry.kind is not Kind.FILE:
            raise exceptions.NotFound(f"The image has no file {path!a}.")
        return self._source.read(entry.offset, min(entry.size, limit))

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted.

        :raises NotFound: there is no such directory.
        """
        node = self._find(path)
        if node is None or node.entry.kind is not Kind.DIRECTORY:
            raise exceptions.NotFound(f"The image has no directory {path!a}.")
        return sorted(node.children)

    def walk(self) -> Iterator[tuple[str, Entry]]:
        """Yield every name and its entry, sorted, directories before what is in them."""
        stack = [("", self._root)]
        while stack:
            path, node = stack.pop()
            yield path or "/", node.entry
            names = sorted(node.children, reverse=True)
            stack += [(f"{path}/{name}", node.children[name]) for name in names]

    def apply(self, layer: int, changes: Iterator[layers.Change]) -> None:
        """Put a layer over those that are there.

        :raises InvalidRequest: there are too many entries, or it changes a name twice.
        """
        hidden: list[Node] = []
        self._seen.clear()
        for change in changes:
            self._count()
            self._check_once(change)
            if change.effect is Effect.HIDES:
                hidden.append(self._directory(change.path, layer, change.header))
            elif not change.path:
                self._write_root(change, layer)
            else:
                parent = self._directory(change.path[:-1], layer, change.header)
                self._change(parent, change, layer)
        for node in hidden:
            _hide(node, layer)

    def _check_once(self, change: layers.Change) -> None:
        """Refuse what the engine can't store: the same name twice, or written and removed."""
        for effect in (change.effect, _OPPOSITE.get(change.effect, change.effect)):
            if (effect, change.path) in self._seen:
                raise layers.refused(change.header, "twice in its layer")
        self._seen.add((change.effect, change.path))

    def _write_root(self, change: layers.Change, layer: int) -> None:
        if change.header.kind is not Kind.DIRECTORY:
            raise layers.refused(change.header, "its root, and no directory")
        self._root.entry = _entry(change.header, layer)

    def _change(self, parent: Node, change: layers.Change, layer: int) -> None:
        name, header = change.path[-1], change.header
        old = parent.children.get(name)
        if header.kind is Kind.DIRECTORY and old and old.entry.kind is Kind.DIRECTORY:
            old.entry, old.touched = _entry(header, layer), layer
            return
        if old and old.touched == layer:
            raise layers.refused(header, "twice in its layer")
        if change.effect is Effect.REMOVES:
            parent.children.pop(name, None)
        elif header.kind is Kind.HARD_LINK:
            parent.children[name] = self._linked(change, layer)
        else:
            parent.children[name] = Node(_entry(header, layer))

    def _linked(self, change: layers.Change, layer: int) -> Node:
        """Return what a hard link links to; it gets the link's owner and permissions."""
        node: Node | None = self._root
        for name in change.target:
            node = node.children.get(name) if node else None
        if node is None or node.touched != layer or node.entry.kind is Kind.DIRECTORY:
            raise layers.refused(change.header, "a hard link to nothing in its own layer")
        mode, uid, gid = change.header.mode, change.header.uid, change.header.gid
        node.entry = dataclasses.replace(node.entry, mode=mode, uid=uid, gid=gid)
        return node

    def _directory(self, path: Sequence[str], layer: int, header: tar.Header) -> Node:
        """Return a directory for a layer to change something in; the engine makes what lacks."""
        node = self._root
        for depth, name in enumerate(path, 1):
            child = node.children.get(name)
            if child is None:
                if (Effect.REMOVES, tuple(path[:depth])) in self._seen:
                    raise layers.refused(header, "below something that its layer removes")
                self._count()
                entry = dataclasses.replace(_IMPLIED, layer=layer)
                child = node.children[name] = Node(entry)
            node = child
            if node.entry.kind is not Kind.DIRECTORY:
                raise layers.refused(header, "below something that is no directory")
            node.touched = layer
        return node

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise exceptions.InvalidRequest("The image has too many files.")

    def _find(self, path: str) -> Node | None:
        """Follow a name as a process in the image would: above the root is the root."""
        way, links = [self._root], LINKS + 1
        rest = path.split("/")[::-1]
        while rest and links and way[-1].entry.kind is Kind.DIRECTORY:
            name = rest.pop()
            if name == "..":
                way = way[:-1] or way
            elif name not in ("", "."):
                node = way[-1].children.get(name)
                if node is None:
                    return None
                if node.entry.kind is Kind.SYMLINK:
                    links -= 1
                    rest += node.entry.target.split("/")[::-1]
                    way = way[:1] if node.entry.target.startswith("/") else way
                else:
                    way.append(node)
        return None if rest else way[-1]


def _entry(header: tar.Header, layer: int) -> Entry:
    return Entry(
        kind=header.kind,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        size=header.size,
        target=header.target,
        layer=layer,
        capabilities="security.capability" in header.attributes,
        offset=header.offset,
    )


def _hide(directory: Node, layer: int) -> None:
    """Remove what lower layers have in a directory, and below what this layer has in it."""
    stack = [directory]
    while stack:
        node = stack.pop()
        node.children = {
            name: child for name, child in node.children.items() if child.touched == layer
        }
        stack += node.children.values()
