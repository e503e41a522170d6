"""`imagelake export`."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(export)


def export(
    lake: LakeOption,
    to: Annotated[str, typer.Option("--to", help="A new or empty folder.", show_default=False)],
    format: Annotated[  # noqa: A002  (the word that users know)
        str, typer.Option("--format", "-f", metavar="NAME", help="folder, parquet, webdataset, coco, delta or csv.")
    ] = "folder",
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help='Only images for which this holds, such as "width > 1000".', show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the pictures and all that is known of them to a folder, in a format that others read.

    folder: the files as they came in, with metadata.jsonl. parquet: every column, bytes among them. webdataset: tar
    files with ID.jpg and ID.json. coco: as folder, with annotations.json from the regions. delta: a Delta Lake table
    (extra delta). csv: tables only.

    A run that was stopped goes on when it is started again with the same words. The lake is not changed.

    \b
    Examples:
      imagelake export --lake photos.lake --to out
      imagelake export --lake photos.lake --to shards --format webdataset --where "width >= 256"
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs it not

    opened = imagelake.open(lake)
    with progress_bar() as bar:
        report = opened.export(to, format, where, bar)
    if json:
        write_json(report)
        return
    write_line(
        f"{report.images:,} images: {report.written:,} written, {report.there:,} there already, {report.gone:,} gone "
        f"meanwhile ({report.seconds:,.1f} s). {report.to} has {report.files:,} files."
    )
    if report.newer:
        write_note(
            f"{report.newer:,} more came into the lake since this export was begun. For them, give another --to."
        )
    if not report.images:
        write_note("No image was chosen. Look at --where, or at: imagelake info --lake " + lake)
