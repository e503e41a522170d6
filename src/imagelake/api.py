"""The few names of `imagelake.__all__`: open a lake, ingest, extract, search. Puts the rooms together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from imagelake.files import display_name, path_to_uri
from imagelake.gallery.notebook_html import Matches, lake_html
from imagelake.lake import info, sql
from imagelake.lake.tables import Tables, open_tables
from imagelake.models.embedder import settle_default
from imagelake.models.manifest import Manifest
from imagelake.run import duplicates, engines, export, grid, ingest, places, quality, runs, tags, watch
from imagelake.run.duplicates import DuplicateOptions, DuplicateReport
from imagelake.run.export import ExportReport
from imagelake.run.extract import ExtractReport
from imagelake.run.extract import extract as run_here
from imagelake.run.ingest import IngestReport
from imagelake.run.pipeline_options import EmbedOptions, ExtractOptions, SparkOptions
from imagelake.run.places import PlacesReport
from imagelake.run.progress import Progress
from imagelake.run.quality import QualityOptions, QualityReport
from imagelake.run.runs import RunInfo
from imagelake.run.search import Searcher, SearchOptions, random_ids, read_query
from imagelake.run.tags import TagReport
from imagelake.search.index import ExactIndex
from imagelake.sources.open import open_source
from imagelake.sources.source import Source
from imagelake.steps.pipeline import Pipeline


@dataclass(frozen=True)
class Lake:
    """A lake that is open. Made by `imagelake.open`."""

    tables: Tables

    @property
    def root(self) -> str:
        """The folder or the bucket address of the lake."""
        return self.tables.root

    def _repr_html_(self) -> str:
        """What is in the lake and its newest images, for a notebook."""
        return lake_html(self.tables)

    def ingest(
        self, source: str | os.PathLike[str] | Source, progress: Progress | None = None, *, new_only: bool = False
    ) -> IngestReport:
        """Bring pictures into the lake: what `imagelake ingest` takes as one argument, or any `Source`.

        Ingesting again adds only what is new. What cannot become an image is a row of `rejections()`, with its reason.

        Args:
            source: what to read.
            progress: told how far it is.
            new_only: of a database, read only the rows after those of the run before.

        Raises:
            InputError: the folder or file does not exist, or `new_only` means nothing for it.
            LakeReadOnlyError, LakeFullError: nothing more could be written; what was committed is whole.
        """
        pictures = open_source(os.fspath(source)) if isinstance(source, str | os.PathLike) else source
        return ingest.ingest(self.tables, pictures, progress, new_only=new_only)

    def ingest_on_spark(
        self,
        source: str | os.PathLike[str] | Source,
        progress: Progress | None = None,
        *,
        master: str | None = None,
        conf: Mapping[str, str] | None = None,
    ) -> IngestReport:
        """Like `ingest`, on Spark: workers read the parts of the source themselves.

        Args:
            source: what to read; every worker reaches it under the same name.
            progress: told that it began.
            master: such as `"spark://host:7077"`; None: the active session's, or that of `spark-submit`.
            conf: settings of Spark by name.

        Raises:
            InputError: Spark cannot be reached as asked, or the source does not exist.
            MissingExtraError: pyspark is not installed.
        """
        from imagelake.run import spark_ingest  # late: an extra

        pictures = open_source(os.fspath(source)) if isinstance(source, str | os.PathLike) else source
        options = SparkOptions(master=master, conf=conf or {})
        return spark_ingest.ingest_spark(self.tables, pictures, options, progress)

    def watch(self, source: str | os.PathLike[str] | Source, stop: threading.Event) -> Iterator[IngestReport]:
        """Ingest a folder or a bucket, then what comes there, until `stop` is set; a report for each commit.

        Raises:
            InputError: the source does not exist, or cannot be watched.
        """
        pictures = open_source(os.fspath(source)) if isinstance(source, str | os.PathLike) else source
        return watch.watch(self.tables, [pictures], stop)

    def tag(self, where: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> TagReport:
        """Give the images for which an SQL predicate holds some tags, and take others away.

        Raises:
            InputError: the predicate is wrong, or a tag is none.
        """
        return tags.tag(self.tables, where, add, remove)

    def extract(
        self, what: Manifest | Pipeline | ExtractOptions | None = None, progress: Progress | None = None
    ) -> ExtractReport:
        """Give every image what it lacks: by default, a vector of the default model.

        Args:
            what: a model; or the steps to do, as a `Pipeline` or as `ExtractOptions`, which a TOML file holds.
            progress: told how far it is.

        Raises:
            ModelError: a model is not known, or its weights are missing or wrong.
            InputError: the steps do not go together.
            MissingExtraError: an engine is asked for that is not installed.
        """
        if isinstance(what, ExtractOptions):
            return engines.run_extraction(self.tables, what, progress)
        pipeline = what if isinstance(what, Pipeline) else Pipeline(embed=what or self.default_model(progress))
        return run_here(self.tables, pipeline, progress)

    def runs(self) -> list[RunInfo]:
        """Past runs of ingest, extract and receive, the newest first."""
        return runs.list_runs(self.tables)

    def default_model(self, progress: Progress | None = None) -> Manifest:
        """The model that `extract` takes where none is given, on this processor."""
        return settle_default(None if progress is None else progress.say)

    def search(
        self,
        picture: str | os.PathLike[str] | bytes,
        k: int = 3,
        *,
        where: str | None = None,
        exclude_self: bool = False,
        embedding_set: str | None = None,
        codes: bool = False,
        coder: str | None = None,
        rerank: int = 0,
    ) -> Matches:
        """The `k` images nearest to a picture (a path, or a picture's bytes): exact, ordered by (distance, id).

        What it gives is a list of `Match`, which shows the pictures in a notebook.

        Args:
            picture: the query. One that is itself in the lake is its own first match, at distance 0.
            k: how many matches.
            where: an SQL predicate over the images table, such as `"width > 1000 AND latitude IS NOT NULL"`.
            exclude_self: leave out the query itself.
            embedding_set: which vectors to search, where the lake has several sets.
            codes: search by binary codes: then a distance counts the bits that differ.
            coder: whose codes, where the lake has those of several.
            rerank: with codes, so many of the nearest are compared again by their vectors, exactly.

        Raises:
            InputError: the picture cannot be read, the predicate is wrong, or there are no vectors yet.
            ImageError: the query is no picture.
        """
        data = picture if isinstance(picture, bytes) else read_query(picture)
        options = SearchOptions(k, where, exclude_self, embedding_set, codes, coder, rerank)
        return Matches(self._searcher(options).by_bytes(data), self.tables, data)

    def search_grid(
        self, picture: str | os.PathLike[str], out: str | os.PathLike[str], options: SearchOptions
    ) -> Matches:
        """Like `search`, and draws the query and its matches into the PNG `out`."""
        data = read_query(picture)
        matches = self._searcher(options).by_bytes(data)
        name = display_name(path_to_uri(picture))
        grid.save_grid(self.tables, [grid.Answer(name, None, data, matches)], out)
        return Matches(matches, self.tables, data)

    def search_random(
        self, count: int, options: SearchOptions, *, seed: int | None = None, out: str | os.PathLike[str] | None = None
    ) -> dict[str, Matches]:
        """The matches of `count` random images of the lake, by the image's id; drawn into the PNG `out` if given."""
        searcher = self._searcher(options)
        chosen = random_ids(self.tables, searcher.vectors, count, seed)
        found = {name: Matches(searcher.by_id(name), self.tables, name) for name in chosen}
        if out is not None:
            names = {name: grid.name_of(self.tables, name) for name in found}
            grid.save_grid(self.tables, [grid.Answer(names[n], n, None, found[n]) for n in found], out)
        return found

    def index(self, embedding_set: str | None = None) -> ExactIndex:
        """The search index of an embedding set as it is now: for many queries at once, ranges, all pairs, and NumPy.

        It is kept in the lake's folder `indexes` and follows the lake; its ids are those of images, and it may have
        vectors of images that were deleted since.

        Raises:
            InputError: there is no such set, or none yet.
        """
        searcher = self._searcher(SearchOptions(embedding_set=embedding_set))
        return searcher.index

    def quality(self, options: QualityOptions | None = None, progress: Progress | None = None) -> QualityReport:
        """Count the images that have each quality flag; fill in figures that a lake of an older version lacks.

        Raises:
            InputError: a threshold or a predicate is wrong.
        """
        return quality.quality(self.tables, options, progress)

    def places(self, where: str | None = None, progress: Progress | None = None) -> PlacesReport:
        """Fill country and place of the images that have a GPS position and no place yet. No network is needed.

        Raises:
            MissingExtraError: the extra `geo` is not installed.
            InputError: the predicate is wrong.
        """
        return places.find_places(self.tables, where, progress=progress)

    def duplicates(self, options: DuplicateOptions | None = None, progress: Progress | None = None) -> DuplicateReport:
        """Groups of images that are copies of each other, each with the one to keep. Nothing is deleted.

        Raises:
            InputError: an option is out of range, or a kind was asked for that the lake has not what it needs for.
        """
        return duplicates.duplicates(self.tables, options or DuplicateOptions(), progress)

    def export(
        self,
        to: str | os.PathLike[str],
        format: str = "folder",  # noqa: A002  (the word that users know)
        where: str | None = None,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write the images, all or those for which an SQL predicate holds, to a folder in a format that others read.

        Args:
            to: a new or empty folder; or one where an export with the same words was stopped, which goes on.
            format: `"folder"`, `"parquet"`, `"webdataset"`, `"coco"`, `"delta"` or `"csv"`.
            where: an SQL predicate over the images table.
            progress: told how far it is.

        Raises:
            InputError: the format is not known, the predicate is wrong, or the folder holds something else.
        """
        return export.export(self.tables, to, format, where, progress)

    def without_vector(self, embedding_set: str | None = None) -> int:
        """How many more images than vectors there are in the set that a search uses: those it cannot find."""
        searcher = self._searcher(SearchOptions(embedding_set=embedding_set))
        return max(0, self.tables.images.count() - searcher.image_count())

    def sql(self, query: str) -> pa.Table:
        """The answer to one SELECT over the tables `images`, `regions`, `predictions`, `rejections`, `receipts`, and
        `"embeddings/NAME"`.

        Raises:
            InputError: the query is wrong, or is more than a query.
        """
        return sql.query(self.tables, query)

    def info(self) -> info.LakeInfo:
        """What is in the lake, in a few numbers."""
        return info.describe_lake(self.tables)

    def rejections(self) -> pa.Table:
        """What could not become an image, with the reasons; the newest first."""
        return sql.query(
            self.tables,
            "SELECT uri, stage, reason, byte_size, rejected_at FROM rejections ORDER BY rejected_at DESC, uri",
        )

    def _searcher(self, options: SearchOptions) -> Searcher:
        return Searcher(self.tables, options, self.default_model())


def open_lake(root: str | os.PathLike[str], *, create: bool = False) -> Lake:
    """Open the lake at `root`, and with `create` make it where there is none.

    Raises:
        LakeNotFoundError: there is no lake at `root`, and `create` is false.
        LakeReadOnlyError: a lake was to be made where this user may not write.
    """
    return Lake(open_tables(root, create=create))


def extract_source(
    source: str, to: str, options: ExtractOptions | None = None, progress: Progress | None = None
) -> ExtractReport:
    """Do the steps with pictures that are in no lake, and write what comes out as Parquet files.

    Args:
        source: what `imagelake ingest` takes: a folder, a bucket, a database, a list of addresses, ...
        to: a new or empty folder, or one where the same was stopped, which goes on; with the engine `spark`, any
            address that Spark writes to.
        options: the steps; None embeds with the default model.
        progress: told how far it is.

    Raises:
        InputError: the source does not exist, `to` holds something else, or the steps do not go together.
        ModelError: a model is not known, or its weights are missing or wrong.
    """
    asked = options or ExtractOptions(embed=EmbedOptions())
    return engines.run_extraction(None, replace(asked, source=source, to=to), progress)
