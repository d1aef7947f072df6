# SPDX-License-Identifier: Apache-2.0
"""User data: parameters of a container, or something for the server itself.

A tenant may give a server up to 64 KiB of anything. One object in YAML or JSON is what he wants
of his container: see :mod:`container_stack.servers.wishes.parameters`. All else is for programs in
the server, such as cloud-init, and is only passed on.

Heat wraps what a template says into a message of many parts, and calls that one
``cfn-userdata``. Source: ``build_userdata`` in ``heat.engine.clients.os.nova``, Heat 27.
"""

import base64
import binascii
import dataclasses
import email
import email.message
import re
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.servers.wishes import parameters, plain_data

#: Bytes; what Nova's API takes, too.
MAX_SIZE = 65535

#: How cloud-init tells kinds of user data, in small letters. Source: its documentation, "User
#: data formats".
_FOR_OTHERS = (
    "#!",
    "#cloud-",
    "#include",
    "#part-handler",
    "#upstart-job",
    "## template:",
)
_MESSAGE = ("content-type:", "mime-version:", "from nobody")
_GZIP = b"\x1f\x8b"
#: Names of the part that holds what the template says: with Heat's tools, and without.
_PARTS = ("cfn-userdata", "")
#: Of objects that are others', and have no mark before them: Ignition's.
_FOREIGN = frozenset({"ignition"})


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """What user data is.

    :param parameters: an object that nobody has looked into yet; None when there is none.
    :param passed_on: the server needs to see it, if only on a configuration drive.
    """

    parameters: Mapping[str, object] | None = dataclasses.field(default=None, repr=False)
    passed_on: bool = False


def decode(encoded: str | None) -> bytes:
    """Return user data as its owner wrote it, from what the compute service keeps.

    :raises InvalidRequest: it isn't in base64.
    """
    try:
        return base64.b64decode(encoded or "", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise exceptions.InvalidRequest("User data isn't in base64.") from exc


def parse(raw: bytes) -> Parsed:
    """Return what user data is.

    :raises InvalidRequest: it is too long, or meant as parameters and can't be read.
    """
    if len(raw) > MAX_SIZE:
        raise exceptions.InvalidRequest(
            f"User data has {len(raw)} bytes; at most {MAX_SIZE} can be had."
        )
    text = _text(raw)
    if text is None:
        return Parsed(passed_on=True)
    if not text.strip():
        return Parsed()
    if text.lstrip().lower().startswith(_MESSAGE):
        return Parsed(_of_message(raw), passed_on=True)
    found = _parameters(text)
    return Parsed(found, passed_on=found is None)


def _text(raw: bytes) -> str | None:
    """Return it as text, or None where it is packed or no text."""
    if raw.startswith(_GZIP):
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _parameters(text: str) -> Mapping[str, object] | None:
    if text.lstrip().lower().startswith(_FOR_OTHERS):
        return None
    try:
        found = plain_data.read(text)
    except plain_data.NotReadable as exc:
        if isinstance(exc, plain_data.NotRead) or _meant_as_parameters(text):
            raise exceptions.InvalidRequest(f"User data can't be read. {exc}") from exc
        return None
    return None if found is None or _FOREIGN.intersection(found) else found


def _meant_as_parameters(text: str) -> bool:
    """Tell whether who wrote it will want to know that it can't be read."""
    keys = "|".join(parameters.KEYS)
    return text.lstrip().startswith("{") or bool(
        re.search(rf"^[\"']?(?:{keys})[\"']?[ \t]*:", text, re.MULTILINE)
    )


def _of_message(raw: bytes) -> Mapping[str, object] | None:
    for part in _parts(raw):
        if (part.get_filename() or "") in _PARTS and part.get_content_type() in (
            "text/plain",
            "text/x-cfninitdata",
        ):
            content = part.get_payload(decode=True)
            text = _text(content) if isinstance(content, bytes) else None
            found = _parameters(text) if text and text.strip() else None
            if found is not None:
                return found
    return None


def _parts(raw: bytes) -> list[email.message.Message]:
    try:
        message = email.message_from_bytes(raw)
        payload = message.get_payload()
    except (RecursionError, ValueError, LookupError):
        return []
    if not message.is_multipart() or not isinstance(payload, list):
        return []
    return [part for part in payload if isinstance(part, email.message.Message)]
