# SPDX-License-Identifier: Apache-2.0
"""What the Docker Engine answers about images, and what it says while it works on one."""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import engine_client, engine_json


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image in the engine.

    :param id: sha256:... of its configuration; the same archive has the same id everywhere.
    :param tags: references; none for an image that is known by id only.
    :param size: bytes, with all layers.
    :param architecture: as the engine names it: amd64, arm64.
    :param layers: diff IDs, sha256:..., the lowest first.
    :param config: what its containers start with, in the engine's words: Entrypoint, Cmd, Env...
    """

    id: str
    tags: tuple[str, ...]
    size: int
    created: datetime.datetime | None
    labels: Mapping[str, str]
    architecture: str
    layers: tuple[str, ...]
    config: Mapping[str, Any]


def raise_errors(messages: Iterable[Mapping[str, Any]]) -> None:
    """Raise what the engine says inside an answer that began well."""
    for message in messages:
        if "error" in message:
            raise engine_client.api_error(500, message["error"])


@contextlib.contextmanager
def of_registry(reference: str) -> Iterator[None]:
    """Turn what the engine can't do with a registry into an error that is the registry's.

    :raises NotFound: it has no such image.
    :raises ServiceUnavailable: it doesn't answer the engine, or refuses.
    """
    try:
        yield
    except exceptions.ContainerStackError as exc:
        if "manifest unknown" in str(exc) or "not found" in str(exc):
            raise exceptions.NotFound(f"The registry has no {reference}: {exc}") from exc
        if type(exc) is exceptions.ContainerStackError:
            raise exceptions.ServiceUnavailable(
                f"The registry can't be used for {reference}: {exc}"
            ) from exc
        raise


def built(messages: Iterable[Mapping[str, Any]], output: Callable[[str], None]) -> str:
    """Pass a build's words on and return the ID of what it made."""
    image_id = ""
    for message in messages:
        for line in message.get("stream", "").splitlines():
            if line.strip():
                output(line)
        image_id = (message.get("aux") or {}).get("ID", image_id)
        if "error" in message:
            code = (message.get("errorDetail") or {}).get("code")
            if code:
                raise exceptions.CommandFailed("The build", code, message["error"])
            raise engine_client.api_error(400, message["error"])
    if not image_id:
        raise exceptions.EngineUnavailable("The Docker Engine ended the build without a result.")
    return image_id


def image(data: Mapping[str, Any]) -> Image:
    return Image(
        id=data["Id"],
        tags=tuple(data.get("RepoTags") or ()),
        size=data["Size"],
        created=engine_json.timestamp(data.get("Created")),
        labels=(data.get("Config") or {}).get("Labels") or {},
        architecture=data["Architecture"],
        layers=tuple((data.get("RootFS") or {}).get("Layers") or ()),
        config=data.get("Config") or {},
    )
