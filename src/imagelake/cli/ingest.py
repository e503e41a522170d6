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
    folder: Annotated[str, typer.Argument(help="A folder with everything below it, or one picture.")],
    lake: LakeOption,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when a picture was rejected.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring pictures into a lake; make it where there is none.

    Each distinct content becomes one image, with its metadata, figures and thumbnail. What cannot become an image is
    listed by `imagelake rejections`. Doing it again adds only what is new.

    \b
    Example:
      imagelake ingest ~/Pictures --lake photos.lake
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.sources.folder import Folder

    pictures = Folder(folder)  # first, so that a wrong name leaves no empty lake behind
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
            write_note(f"{folder} holds no pictures. Hidden files, other files and lakes are skipped.")
        if report.rejected:
            write_note(f"Why were some rejected? imagelake rejections --lake {lake}")
    if strict and report.rejected:
        raise typer.Exit(REJECTED)
