# SPDX-License-Identifier: Apache-2.0
"""The JSON forms of what the ledger keeps."""

import dataclasses
from typing import Any, TypeVar

from container_stack.storlets.deployment import versions
from container_stack.storlets.store import documents
from container_stack.storlets.verification import report

_E = TypeVar("_E", versions.Phase, versions.Outcome)


def write_version(version: versions.Version) -> dict[str, Any]:
    """Return what :func:`read_version` reads."""
    return dataclasses.asdict(version) | {"report": version.report.to_json()}


def read_version(document: documents.Document) -> versions.Version:
    """Return a version.

    :raises Corrupt: it isn't one.
    """
    return versions.Version(
        number=document.integer("number"),
        image_id=document.image_id("image_id"),
        who=document.text("who"),
        when=document.seconds("when"),
        layers=tuple(_read_layer(each) for each in document.parts("layers")),
        report=_read_report(document.part("report")),
        source=_read_source(document.part("source")) if document.has("source") else None,
        note=document.text("note"),
        restores=document.integer("restores") if document.has("restores") else None,
        outcome=_choice(versions.Outcome, document, "outcome"),
        error=document.text("error"),
        skipped=document.texts("skipped"),
    )


def write_deployment(deployment: versions.Deployment) -> dict[str, Any]:
    """Return what :func:`read_deployment` reads."""
    return dataclasses.asdict(deployment) | {"version": write_version(deployment.version)}


def read_deployment(document: documents.Document) -> versions.Deployment:
    """Return a deployment.

    :raises Corrupt: it isn't one.
    """
    return versions.Deployment(
        token=document.text("token"),
        phase=_choice(versions.Phase, document, "phase"),
        version=read_version(document.part("version")),
        previous=document.image_id("previous") if document.has("previous") else None,
        differing=document.images("differing"),
        known=document.flag("known"),
        wave=document.integer("wave"),
        waves=document.integer("waves"),
        unfinished=document.texts("unfinished"),
    )


def write_current(current: versions.Current) -> dict[str, Any]:
    """Return what :func:`read_current` reads."""
    return dataclasses.asdict(current)


def read_current(document: documents.Document) -> versions.Current:
    """Return which version is current.

    :raises Corrupt: nothing says so.
    """
    return versions.Current(
        document.integer("number"), document.image_id("image_id"), document.seconds("when")
    )


def _read_layer(document: documents.Document) -> versions.Layer:
    return versions.Layer(document.image_id("diff_id"), document.integer("size"))


def _read_source(document: documents.Document) -> versions.Source:
    return versions.Source(document.text("container"), document.text("name"), document.text("etag"))


def _read_report(document: documents.Document) -> report.Report:
    try:
        return report.Report.from_json(document.raw())
    except (KeyError, TypeError, ValueError) as exc:
        raise document.corrupt("is no report") from exc


def _choice(kind: type[_E], document: documents.Document, key: str) -> _E:
    try:
        return kind(document.text(key))
    except ValueError as exc:
        raise document.corrupt(f"has an unknown {key!r}") from exc
