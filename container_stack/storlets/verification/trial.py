# SPDX-License-Identifier: Apache-2.0
"""A storlet of the account's own, and what it must make of an object."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping

from container_stack import exceptions

_VERSION = re.compile(r"3(\.\d{1,2})?")
#: The runtime takes storlets and what belongs to them by the last part of their names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
#: Bytes of all parameters and metadata.
_WORDS = 32 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """A storlet, run as a request would.

    :param file: path of the storlet; in Swift it would have the same name: thumbnail.py.
    :param main: its class, as thumbnail.Thumbnail.
    :param language: python or java.
    :param version: of Python, as 3.11; None is python3.
    :param dependencies: paths of files that lie beside it.
    :param parameters: what a request gives in X-Storlet-Parameter-...
    :param input: path of the object's bytes.
    :param metadata: of the object, by the part of X-Object-Meta-...
    :param output: path of the bytes that must come out; None admits any.
    :param output_metadata: what must come out with them; None admits any.
    :raises InvalidRequest: no gateway would run it so.
    """

    file: str
    main: str
    input: str
    output: str | None = None
    language: str = "python"
    version: str | None = None
    dependencies: tuple[str, ...] = ()
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    output_metadata: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.language not in ("python", "java"):
            raise exceptions.InvalidRequest(
                f"No storlet is written in {self.language!r}; choose python or java."
            )
        if self.version is not None and not _VERSION.fullmatch(self.version):
            raise exceptions.InvalidRequest(
                f"{self.version!r} is no version of Python that storlets know; give it as 3.11."
            )
        self._check_files()
        if len(json.dumps([dict(self.parameters), dict(self.metadata)])) > _WORDS:
            raise exceptions.InvalidRequest(
                f"Parameters and metadata are more than {_WORDS} bytes; no request carries that."
            )

    def _check_files(self) -> None:
        names = [os.path.basename(each) for each in (self.file, *self.dependencies)]
        for name in (*names, self.main):
            if not _NAME.fullmatch(name):
                raise exceptions.InvalidRequest(f"{name!r} can't name a storlet.")
        if len(set(names)) != len(names):
            raise exceptions.InvalidRequest("Two files of the storlet have the same name.")
        for path in (self.file, *self.dependencies, self.input, *filter(None, [self.output])):
            if not os.path.isfile(path):
                raise exceptions.InvalidRequest(f"There is no file {path}.")

    @property
    def name(self) -> str:
        """What its object would be called."""
        return os.path.basename(self.file)
