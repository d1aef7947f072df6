# SPDX-License-Identifier: Apache-2.0
"""The Samba of share servers whose users are a directory's."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from container_stack.shares import cifs, names, protocol


class Samba(cifs.Samba):
    """A Samba without users of its own. A rule's name means who has it when the rule is set.

    :cvar program: what knows the directory, in the container.
    """

    program: ClassVar[str]

    def set_share(
        self,
        name: str,
        rules: Iterable[protocol.Rule],
        keys: Mapping[str, str] = protocol.NO_KEYS,
    ) -> Mapping[str, str]:
        """Serve a share to exactly these users and groups, who have their passwords already.

        While the directory doesn't answer, names that the share had before go on meaning the same.
        """
        self._run(cifs.SHARE_SERVER, "set", name, stdin=f"{section(name, rules)}end\n".encode())
        return {}

    def unknown(self, rules: Iterable[protocol.Rule]) -> frozenset[str]:
        wanted = sorted({each.to for each in rules if each.kind == "user"})
        if not wanted:
            return frozenset()
        asked = "".join(f"{each}\n" for each in wanted)
        answer = self._run(self.program, "unknown", stdin=asked.encode(), timeout=120.0)
        return frozenset(answer.splitlines())


def section(share: str, rules: Iterable[protocol.Rule]) -> str:
    """Return the share's section as ``share-server`` reads it, or "" when nobody is to get in.

    :raises InvalidRequest: the share can't have this name, or a user has two rules.
    """
    names.check_share(share)
    levels, networks = cifs.sorted_rules(rules)
    if not levels:
        return ""
    lines = [f"path = /shares/{share}/{protocol.DATA}", "read only = no"]
    lines += [f"member {levels[each]} = {each}" for each in sorted(levels)]
    if networks:
        lines.append(f"hosts allow = {' '.join(networks)}")
    return "".join(f"{each}\n" for each in lines)
