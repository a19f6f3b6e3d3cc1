"""The registry: immutable versions of models, and one pointer to the promoted one. Files alone, on any store::

    <registry>/versions/<version>/manifest.json   a published model, as training publishes it, with who and why
    <registry>/promotions/<moment>-<id>.json      every decision, promoted or refused
    <registry>/promoted.json                      the decision in force, replaced atomically

A version is named like the model's generation, which predictions carry as ``model_version``.
"""

import datetime
import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs
from pydantic import ValidationError

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.drift import HISTOGRAMS
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import (
    MANIFEST,
    FileEntry,
    Folder,
    below,
    data_path,
    publish,
    read_manifest,
)

KIND = "model"
SPEC = "spec.json"
PROMOTED, PROMOTIONS, VERSIONS = "promoted.json", "promotions", "versions"
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Decision(StrictConfig):
    """One attempt to promote a version."""

    version: str
    previous: str = ""
    """The version that was promoted before."""
    promoted: bool
    forced: bool = False
    """Promoted although it was refused, or although nothing could be compared."""
    by: str
    at: datetime.datetime
    why: str
    verdict: str
    """What the backtest said, in words."""
    evidence: dict[str, Any] = {}
    """The comparison's numbers."""


@dataclass(frozen=True)
class PublishedModel:
    """A published model's place and what features it wants; nothing of it is loaded."""

    location: str
    version: str
    spec: DatasetSpec
    spec_location: str
    """Of the spec's file."""
    about: dict[str, Any]


def published_model(location: str) -> PublishedModel:
    """The live model of a published folder.

    Raises:
        UserError: there is none, or its spec is damaged.
    """
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind=KIND, build_hint="run m2m train first")
    (entry,) = manifest.select(role=SPEC)
    spec = DatasetSpec.from_json(folder.read_bytes(entry.path).decode(), source=f"{location}/{entry.path}")
    return PublishedModel(location, manifest.generation, spec, below(location, entry.path), manifest.content)


@dataclass(frozen=True)
class Registry:
    location: str

    def version_location(self, version: str) -> str:
        return below(self.location, VERSIONS, version)

    def register(self, model: str, *, dataset: str, by: str, why: str, at: datetime.datetime) -> PublishedModel:
        """Copy the live model at ``model`` into a version of its own; one that is there already stays as it is.

        The histograms of ``dataset``, if that is what the model was trained on, go along: they lie beside the
        version's spec, where a feature day's drift is measured from them.

        Raises:
            UserError: there is no model, or a file of it is damaged.
        """
        source = Folder.at(model)
        manifest = read_manifest(source, kind=KIND, build_hint="run m2m train first")
        target = Folder.at(self.version_location(manifest.generation))
        if target.exists(MANIFEST):
            return published_model(target.uri)
        files = [_copied(source, entry, target) for entry in manifest.files]
        files += _histograms(dataset, published_model(model).spec, target, manifest.generation)
        about = {"registered_by": by, "registered_at": at.isoformat(timespec="seconds"), "why": why, "source": model}
        publish(target, manifest.model_copy(update={"files": tuple(files), "content": manifest.content | about}))
        return published_model(target.uri)

    def versions(self) -> list[PublishedModel]:
        """All complete versions, oldest first."""
        root = Folder.at(self.location)
        selector = pafs.FileSelector(root.join(VERSIONS), recursive=False, allow_not_found=True)
        names = sorted(info.base_name for info in root.filesystem.get_file_info(selector))
        folders = {name: Folder.at(self.version_location(name)) for name in names}
        return [published_model(folder.uri) for folder in folders.values() if folder.exists(MANIFEST)]

    def version(self, name: str) -> PublishedModel:
        """One version.

        Raises:
            UserError: there is none of this name.
        """
        if not VERSION.fullmatch(name) or not Folder.at(self.version_location(name)).exists(MANIFEST):
            known = [version.version for version in self.versions()]
            raise UserError(f"{self.location} must hold version {name!r}, however: it has {known or 'none'}")
        return published_model(self.version_location(name))

    def decision(self) -> Decision | None:
        """The decision in force; None where nothing was promoted yet."""
        root = Folder.at(self.location)
        if not root.exists(PROMOTED):
            return None
        return _decision(root, PROMOTED)

    def promoted(self) -> PublishedModel:
        """The promoted version.

        Raises:
            UserError: nothing was promoted yet.
        """
        decision = self.decision()
        if decision is None:
            raise UserError(f"{self.location} has no promoted model: run m2m registry promote VERSION --why ...")
        return self.version(decision.version)

    def record(self, decision: Decision) -> None:
        """Keep a decision, and put it in force if it promotes."""
        root = Folder.at(self.location)
        text = (decision.model_dump_json(indent=1) + "\n").encode()
        moment = decision.at.strftime("%Y%m%dT%H%M%S.%f")  # in the order of the decisions
        root.replace_bytes(f"{PROMOTIONS}/{moment}-{uuid.uuid4().hex[:8]}.json", text)
        if decision.promoted:
            root.replace_bytes(PROMOTED, text)

    def decisions(self) -> list[Decision]:
        """All decisions, oldest first.

        Raises:
            UserError: the record of one is damaged.
        """
        root = Folder.at(self.location)
        selector = pafs.FileSelector(root.join(PROMOTIONS), recursive=False, allow_not_found=True)
        names = sorted(info.base_name for info in root.filesystem.get_file_info(selector))
        return [_decision(root, f"{PROMOTIONS}/{name}") for name in names if name.endswith(".json")]


def _decision(root: Folder, path: str) -> Decision:
    try:
        return Decision.model_validate_json(root.read_bytes(path))
    except ValidationError as error:
        mend = "promote a version again, with --force" if path == PROMOTED else "remove it"
        raise UserError(f"{root.uri}/{path} is damaged ({error.error_count()} problems): {mend}") from None


def _copied(source: Folder, entry: FileEntry, target: Folder) -> FileEntry:
    data = source.read_bytes(entry.path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise UserError(f"{source.uri}/{entry.path} is damaged (it has another checksum): train again")
    return target.write_bytes(entry.path, data).model_copy(update={"partition": entry.partition})


def _histograms(dataset: str, spec: DatasetSpec, target: Folder, generation: str) -> list[FileEntry]:
    folder = Folder.at(dataset)
    if not folder.exists(MANIFEST):
        return []
    manifest = read_manifest(folder, kind="dataset", build_hint="build it again")
    found = manifest.select(role="histograms")
    if not found or manifest.content.get("feature_fingerprint") != spec.feature_fingerprint:
        return []
    entry = target.write_bytes(data_path(generation, HISTOGRAMS), folder.read_bytes(found[0].path))
    return [entry.model_copy(update={"partition": {"role": HISTOGRAMS}})]
