"""The tables under one root, by name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from imagelake import schema
from imagelake.errors import InputError, LakeError, LakeNotFoundError
from imagelake.files import is_remote
from imagelake.lake import table
from imagelake.lake.ids import IdSet
from imagelake.lake.table import Table

_SUFFIX = ".lance"
_FIXED: dict[str, pa.Schema] = {
    "images": schema.IMAGES,
    "regions": schema.REGIONS,
    "predictions": schema.PREDICTIONS,
    "rejections": schema.REJECTIONS,
    "receipts": schema.RECEIPTS,
}


@dataclass(frozen=True)
class Tables:
    """The tables of the lake at `root`, a folder or a bucket address."""

    root: str

    def _address(self, name: str) -> str:
        return f"{self.root}/{name}{_SUFFIX}"

    @property
    def images(self) -> Table:
        """One row per distinct content."""
        return Table(self._address("images"))

    @property
    def regions(self) -> Table:
        """One row per box in an image."""
        return Table(self._address("regions"))

    @property
    def predictions(self) -> Table:
        """One row per answer of a model."""
        return Table(self._address("predictions"))

    @property
    def rejections(self) -> Table:
        """One row per URI and content that could not become an image."""
        return Table(self._address("rejections"))

    @property
    def receipts(self) -> Table:
        """One row per finished piece of work."""
        return Table(self._address("receipts"))

    def embedding_sets(self, *, of_regions: bool = True) -> list[str]:
        """The names of the embedding sets, sorted; with `of_regions` false, only those of whole images."""
        below = f"{self.root}/embeddings"
        sets = table.names_below(below) if is_remote(below) else _names_below(Path(below))
        # Not one that is half made, or that another program put there.
        return [name for name in sets if self._is_wanted(Table(self._address(f"embeddings/{name}")), of_regions)]

    def _is_wanted(self, table: Table, of_regions: bool) -> bool:  # noqa: FBT001  (private)
        told = (table.schema.metadata or {}) if table.exists() else {}
        return b"imagelake:manifest" in told and (of_regions or b"imagelake:pipeline" not in told)

    def embeddings(self, name: str) -> Table:
        """The embedding set `name`.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.embedding_sets():
            known = ", ".join(self.embedding_sets()) or "none yet; `imagelake extract` makes one"
            raise InputError(f"This lake has no embedding set {name!r}. It has: {known}.")
        return Table(self._address(f"embeddings/{name}"))

    def create_embeddings(self, name: str, columns: pa.Schema) -> Table:
        """The embedding set `name`, created where it is missing."""
        made = {b"imagelake:made": uuid.uuid4().hex.encode()}  # tells a set that was made again from the one before
        return table.create(
            self._address(f"embeddings/{name}"), columns.with_metadata({**(columns.metadata or {}), **made})
        )

    def code_sets(self) -> list[str]:
        """The names of the sets of binary codes, sorted."""
        below = f"{self.root}/codes"
        sets = table.names_below(below) if is_remote(below) else _names_below(Path(below))
        return [name for name in sets if self._is_wanted(Table(self._address(f"codes/{name}")), of_regions=True)]

    def codes(self, name: str) -> Table:
        """The set of binary codes `name`.

        Raises:
            InputError: there is none of that name.
        """
        if name not in self.code_sets():
            known = ", ".join(self.code_sets()) or "none yet; `imagelake codes write` makes one"
            raise InputError(f"This lake has no codes {name!r}. It has: {known}.")
        return Table(self._address(f"codes/{name}"))

    def create_codes(self, name: str, columns: pa.Schema) -> Table:
        """The set of binary codes `name`, created where it is missing."""
        return table.create(self._address(f"codes/{name}"), columns)

    def projection_sets(self) -> list[str]:
        """The names of the embedding sets that were drawn as points in a plane, sorted."""
        below = f"{self.root}/projections"
        sets = table.names_below(below) if is_remote(below) else _names_below(Path(below))
        return [name for name in sets if self.projections(name).exists()]

    def projections(self, name: str) -> Table:
        """The points of the embedding set `name`; the table may be missing, for anybody may delete it."""
        return Table(self._address(f"projections/{name}"))

    def create_projections(self, name: str, columns: pa.Schema) -> Table:
        """The points of the embedding set `name`, created where they are missing."""
        return table.create(self._address(f"projections/{name}"), columns)

    def index_folder(self, name: str) -> Path | None:
        """Where the search index of an embedding set is kept, or None where the lake is in a bucket."""
        return None if is_remote(self.root) else Path(self.root) / "indexes" / name

    def all(self) -> dict[str, Table]:
        """Every table by the name that SQL knows it under: `embeddings/NAME`, `codes/NAME`, ... and the fixed ones."""
        tables = {name: Table(self._address(name)) for name in _FIXED}
        tables |= {f"embeddings/{name}": self.embeddings(name) for name in self.embedding_sets()}
        tables |= {f"codes/{name}": self.codes(name) for name in self.code_sets()}
        return tables | {f"projections/{name}": self.projections(name) for name in self.projection_sets()}


def open_tables(root: str | os.PathLike[str], *, create: bool = False) -> Tables:
    """Open the lake at `root`, and with `create` make it where there is none.

    Raises:
        LakeNotFoundError: there is no lake at `root`, and `create` is false.
        LakeReadOnlyError: a lake was to be made where this user may not write.
        LakeError: `root` holds a lake of a later format.
    """
    address = os.fspath(root)
    if not is_remote(address):
        address = os.path.abspath(address.removeprefix("file://"))  # noqa: PTH100
        if os.fsencode(address).decode("utf-8", "replace") != address:
            raise InputError(f"{address!r} is not UTF-8, and a lake's own name must be. Give another --lake.")
        if Path(address).exists() and not Path(address).is_dir():
            raise InputError(f"{address} is a file; --lake takes a folder, new or empty, or a lake.")
    tables = Tables(address.rstrip("/"))
    if not tables.images.exists():
        if not create:
            raise LakeNotFoundError(
                f"There is no lake at {address}. Make one with: imagelake ingest FOLDER --lake {address}"
            )
        _refuse_foreign_folder(address)
    elif not create:
        _check_format(tables)
        return tables
    for name, columns in sorted(_FIXED.items(), key=lambda item: item[0] == "images"):
        # The images table comes last: where it is, the lake is complete, whoever was killed in between.
        target = Table(tables._address(name))  # noqa: SLF001  (the same file)
        if not target.exists():
            table.create(target.uri, columns, with_blob=name == "images")
    _check_format(tables)
    return tables


def _refuse_foreign_folder(address: str) -> None:
    """A lake is made in an empty or a new folder, so that nobody finds tables among their photos."""
    if is_remote(address):
        return
    path = Path(address)
    own = {f"{name}{_SUFFIX}" for name in _FIXED}
    own |= {"embeddings", "codes", "indexes", "projections", "incoming", "events"}
    found = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
    foreign = [name for name in found if name not in own and not name.startswith(".")]
    if foreign:
        raise InputError(
            f"{address} holds other files ({foreign[0]!r}, ...); --lake takes a new or empty folder, or a lake."
        )


def _check_format(tables: Tables) -> None:
    found = (tables.images.schema.metadata or {}).get(b"imagelake:format", b"?").decode()
    if found != schema.FORMAT_VERSION:
        raise LakeError(
            f"{tables.root} is a lake of format {found}; this imagelake reads {schema.FORMAT_VERSION}. Update it."
        )


def _names_below(folder: Path) -> list[str]:
    """The names of the tables in a folder, without their suffix, sorted; empty where there is none."""
    if not folder.exists():
        return []
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.iterdir() if path.name.endswith(_SUFFIX))


def manifest_text(embeddings: Table) -> str:
    """The manifest of an embedding set, as JSON.

    Raises:
        LakeError: the table has none, so nobody knows what made its vectors.
    """
    found = (embeddings.schema.metadata or {}).get(b"imagelake:manifest")
    if found is None:
        raise LakeError(f"{embeddings.uri} has no manifest: imagelake did not make it. Choose another embedding set.")
    return str(found.decode())


def id_set(source: Table, where: str | None = None) -> IdSet:
    """The ids of a table as a small set."""
    return IdSet(batch.column("id") for batch in source.scan(["id"], where, batch_rows=65536))


def present_ids(images: Table, ids: Sequence[str]) -> set[str]:
    """Those of some ids that are in the table."""
    return set(images.rows("id", ids, ["id"]).column("id").to_pylist())


def uris_of(images: Table, ids: Sequence[str]) -> dict[str, list[str]]:
    """The URIs that these images were seen under, by id; an id that is not there is missing."""
    found = images.rows("id", ids, ["id", "uris"])
    return dict(zip(found.column("id").to_pylist(), found.column("uris").to_pylist(), strict=True))
