"""The models that `imagelake models pull` knows: where they are, what they must hash to, and how they are used.

`catalogue.json` lies beside this file. An entry whose address nobody could try when it was written says `"reached":
false`; its hash then stands there as others told it, with the place in `hash_source`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from imagelake.errors import ModelError
from imagelake.models.file_manifest import FileManifest, from_json
from imagelake.models.heads import refuse_unknown


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """A model that can be pulled.

    Attributes:
        name: what it is called, here and in the registry.
        summary: what it is, in a line.
        task: what it is for.
        file: the name of its file.
        addresses: where the file is, https, the first first.
        sha256: what the file must hash to; None where nobody has told.
        size_bytes: how large it is; None where nobody has told.
        hash_source: where hash and size come from, in words.
        licence: the SPDX name of the licence of the weights.
        reached: whether an address was tried, and gave that very file.
        build: None for a file that runs as it is, `"keras-resnet50"` for weights that a model is built around first.
        manifest: the rest of its manifest, as JSON has it.
        labels: the names of its classes.
    """

    name: str
    summary: str
    task: str
    file: str
    addresses: tuple[str, ...]
    sha256: str | None
    size_bytes: int | None
    hash_source: str
    licence: str
    reached: bool
    manifest: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    build: str | None = None

    def file_manifest(self, source: str, file: str | None = None) -> FileManifest:
        """The manifest to add it with.

        Args:
            source: where the file comes from.
            file: the name of the file that runs, where it is another than the one that was pulled.

        Raises:
            ModelError: the entry is wrong.
        """
        told = dict(self.manifest) | {
            "name": self.name,
            "task": self.task,
            "files": {"model": file or self.file},
            "licence": self.licence,
            "source": source,
            "labels": list(self.labels),
        }
        return from_json(json.dumps(told))


def catalogue() -> tuple[CatalogueEntry, ...]:
    """Every model that can be pulled."""
    text = resources.files("imagelake.models").joinpath("catalogue.json").read_text(encoding="utf-8")
    told = json.loads(text)
    entries = []
    for entry in told["models"]:
        labels = told["labels"][entry["labels"]] if entry["labels"] else ()
        fields = entry | {"labels": tuple(labels), "addresses": tuple(entry["addresses"])}
        entries.append(CatalogueEntry(**fields))
    return tuple(entries)


def find_entry(name: str) -> CatalogueEntry:
    """The entry of a name.

    Raises:
        ModelError: there is none; the message lists those that are.
    """
    entries = {entry.name: entry for entry in catalogue()}
    try:
        refuse_unknown("models of the catalogue", [name], list(entries))
    except ModelError as error:
        raise ModelError(f"{error}; what lies on this machine is added with `imagelake models add`") from None
    return entries[name]
