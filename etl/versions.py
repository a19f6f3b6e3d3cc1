"""Versions of a run's spec, ``<folder>/<version>.json``: immutable, so that a model's spec can always be found."""

import re

import pyarrow.fs as pafs

from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder

NAME = re.compile(r"(\d+)\.json")


def register_spec(folder: Folder, spec: DatasetSpec) -> DatasetSpec:
    """``spec`` with its version in ``folder``: the one it already has there, else the next, which is written."""
    known = read_versions(folder)
    for version, registered in known.items():
        if registered.feature_fingerprint == spec.feature_fingerprint:
            return spec.model_copy(update={"version": version, "parent": registered.parent})
    numbered = spec.model_copy(update={"version": max(known, default=0) + 1})
    folder.replace_bytes(f"{numbered.version}.json", numbered.to_json().encode())
    return numbered


def read_versions(folder: Folder) -> dict[int, DatasetSpec]:
    """All registered specs by version, ascending.

    Raises:
        UserError: one of them was edited or damaged.
    """
    infos = folder.filesystem.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    numbers = sorted(int(match.group(1)) for info in infos if (match := NAME.fullmatch(info.base_name)))
    return {
        number: DatasetSpec.from_json(
            folder.read_bytes(f"{number}.json").decode(), source=f"{folder.uri}/{number}.json"
        )
        for number in numbers
    }
