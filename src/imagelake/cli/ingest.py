"""`imagelake ingest`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note

if TYPE_CHECKING:
    from imagelake.run.ingest import IngestReport
    from imagelake.sources.source import Source

EVERY_S = 60.0
REJECTED = 3  # exit code where --strict was given and something was rejected


class Engine(StrEnum):
    """Where the work is done."""

    local = "local"
    spark = "spark"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(ingest)


def ingest(
    what: Annotated[
        list[str], typer.Argument(help="What to read, one or more of the things below.", show_default=False)
    ],
    lake: LakeOption,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which column of a table has the pictures.", show_default=False)
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also fetch from private and local network addresses.")
    ] = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Read a public bucket without credentials.")] = False,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a database, which table.", show_default=False)
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Of a database, one SELECT instead of a table.", show_default=False),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a database, the column of keys.  [default: primary key]", show_default=False
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="N/M", help="Of a database, only this part of M, by its keys.", show_default=False),
    ] = None,
    label_from: Annotated[
        str | None,
        typer.Option(metavar="parent", help="Label each picture with the name of its folder.", show_default=False),
    ] = None,
    new_only: Annotated[
        bool, typer.Option("--new-only", help="Of a database, only rows after those of the last run.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: take what comes into a folder or bucket, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="With --watch, how often to list everything.  [default: 60]",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="On this machine, or on Spark.  [default: local]", show_default=False)
    ] = None,
    master: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --engine spark, such as spark://host:7077.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a picture was rejected.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring pictures into a lake; make it where there is none.

    Each distinct content becomes one image, with its metadata, figures and thumbnail. What cannot become an image is
    listed by `imagelake rejections`. Doing it again adds only what is new.

    \b
    What can be read:
      FOLDER, PICTURE, or a pattern in quotes such as 'photos/**/*.jpg'
      .zip, .tar, .tar.gz, .tar.zst and so on, WebDataset shards among them
      .parquet, .arrow, .feather     a column of pictures; see --column
      LAKE                           another lake
      s3://BUCKET/FOLDER, gs://...   pictures in a bucket, also az://CONTAINER/...
      postgresql://HOST/DATABASE     with --table or --query
      https://...                    one address, fetched
      urls.txt, .csv, .tsv           a list of addresses; urls:FILE for Parquet
      imagefolder:FOLDER             with metadata.csv, .jsonl or .parquet
      coco:ANNOTATIONS.json,FOLDER   boxes become regions
      voc:FOLDER                     Pascal VOC, boxes become regions
      stl10:FOLDER, cifar10:FOLDER   in their binary forms

    \b
    Examples:
      imagelake ingest ~/Pictures --lake photos.lake
      imagelake ingest holiday.zip 'scans/*.tif' --lake photos.lake
      imagelake ingest ~/Camera --lake photos.lake --watch
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.sources.labelled import label_from as labelled
    from imagelake.sources.open import open_source, open_sources

    options = {
        "column": column, "allow_private": allow_private, "anonymous": anonymous, "table": table, "query": query,
        "id_column": id_column, "part": part,
    }  # fmt: skip

    def wrap(source: Source) -> Source:
        return source if label_from is None else labelled(source, label_from)

    if every is not None and not watch:
        raise typer.BadParameter("it belongs to --watch", param_hint="--every")
    if watch and new_only:
        raise typer.BadParameter(
            "--watch begins with all that is there; leave one of them out", param_hint="--new-only"
        )
    if master is not None and engine is not Engine.spark:
        raise typer.BadParameter("it belongs to --engine spark", param_hint="--master")
    if engine is Engine.spark and (watch or new_only):
        raise typer.BadParameter("--watch and --new-only work on this machine alone", param_hint="--engine")
    if watch:
        # First, so that a wrong name leaves no empty lake behind.
        report = _watch(lake, [open_source(each, options) for each in what], wrap, every or EVERY_S)
    else:
        pictures = wrap(open_sources(what, options))
        with progress_bar() as bar:
            opened = imagelake.open(lake, create=True)
            if engine is Engine.spark:
                report = opened.ingest_on_spark(pictures, bar, master=master)
            else:
                report = opened.ingest(pictures, bar, new_only=new_only)
    if json:
        write_json(report)
    else:
        write_line(_told(report))
        if not report.found and not watch:
            hint = "" if new_only else " Hidden files, other files and lakes are skipped."
            write_note(f"{report.source}: no {'new ' if new_only else ''}pictures.{hint}")
        if report.rejected:
            write_note(f"Why were some rejected? imagelake rejections --lake {lake}")
    if strict and report.rejected:
        raise typer.Exit(REJECTED)


def _told(report: IngestReport) -> str:
    after = "" if report.went_on_after is None else f" after {report.went_on_after}"
    return (
        f"{report.found:,} found{after}: {report.added:,} added, {report.known:,} known, {report.rejected:,} rejected "
        f"({report.seconds:,.1f} s, {report.images_per_s:,.0f} images/s)"
    )


def _watch(lake: str, sources: list[Source], wrap: Callable[[Source], Source], every: float) -> IngestReport:
    """Watch until a signal ends it; the sum of all commits. The second signal ends it at once."""
    from imagelake.cli.bar import INTERRUPTED, progress_bar
    from imagelake.run.watch import WatchOptions, summed, watch

    stop = threading.Event()

    def end(number: int, frame: object) -> None:  # noqa: ARG001  (what a handler is given)
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    total: IngestReport | None = None
    with progress_bar() as bar:
        tables = imagelake.open(lake, create=True).tables
        for report in watch(tables, sources, stop, WatchOptions(every, wrap=wrap), bar):
            write_note(_told(report))
            if total is None:
                write_note("Watching. Ctrl-C ends it.")
            total = report if total is None else summed([total, report])
    if total is None:  # ended before the first commit
        raise typer.Exit(INTERRUPTED)
    return total
