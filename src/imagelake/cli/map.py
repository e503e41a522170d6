"""`imagelake map`: draw all pictures as points in a plane, those that are alike near each other."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note


class Method(StrEnum):
    """How points are found."""

    pca = "pca"
    umap = "umap"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="map")(draw)


def draw(
    lake: LakeOption,
    embedding_set: Annotated[
        str | None, typer.Option("--set", help="Which embedding set.  [default: the only one]", show_default=False)
    ] = None,
    method: Annotated[
        Method, typer.Option(help="pca takes seconds; umap takes minutes and needs its extra.")
    ] = Method.pca,
    again: Annotated[bool, typer.Option("--again", help="Make it also where the lake keeps one.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the points with their images' columns: .parquet, .csv, .json.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the embedding map that the page shows: all pictures as points, the alike near each other.

    \b
    Examples:
      imagelake map --lake photos.lake --method umap
      imagelake map --lake photos.lake --export map.parquet
      embedding-atlas map.parquet --x x --y y
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of these
    from imagelake.gallery.drawing import DrawOptions, draw_map

    with progress_bar() as bar:
        options = DrawOptions(embedding_set, method.value, again=again, export=export)
        report = draw_map(imagelake.open(lake).tables, options, bar)
    if json:
        write_json(report)
        return
    what = f"made in {report.seconds:,.1f} s" if report.made else "as it was kept"
    write_line(f"{report.placed:,} of {report.total:,} images of {report.embedding_set} by {report.method}, {what}")
    if report.exported:
        write_line(f"{report.exported}: x, y, id, uri and the columns of {report.placed:,} images")
    if not report.kept:
        write_note("The lake cannot be written, so the map is not kept.")
    if report.placed < report.total:
        write_note(f"Many images came since. Make the map again: imagelake map --lake {lake} --method {method} --again")
