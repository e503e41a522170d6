"""`imagelake ingest`."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note

REJECTED = 3  # exit code where --strict was given and something was rejected


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
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.sources.open import open_sources

    pictures = open_sources(
        what, {"column": column, "allow_private": allow_private}
    )  # first, so that a wrong name leaves no empty lake behind
    with progress_bar() as bar:
        report = imagelake.open(lake, create=True).ingest(pictures, bar)
    if json:
        write_json(report)
    else:
        write_line(
            f"{report.found:,} found: {report.added:,} added, {report.known:,} known, {report.rejected:,} rejected "
            f"({report.seconds:,.1f} s, {report.images_per_s:,.0f} images/s)"
        )
        if not report.found:
            write_note(f"{', '.join(what)}: no pictures. Hidden files, other files and lakes are skipped.")
        if report.rejected:
            write_note(f"Why were some rejected? imagelake rejections --lake {lake}")
    if strict and report.rejected:
        raise typer.Exit(REJECTED)
