"""`imagelake quality`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note, write_table

if TYPE_CHECKING:
    from imagelake.run.quality import QualityReport


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(quality)


def quality(
    lake: LakeOption,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL", help='Only images for which this holds, such as "width > 999".', show_default=False
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Draw samples of each flag into FOLDER/FLAG.png.", show_default=False),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Count by another threshold, such as blurred=0.8; repeatable.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write the flags by these thresholds to the column `flags`.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Count the images that are blurred, dark, overexposed, of low contrast, tiny, of an extreme aspect, nearly of one
    color, or screenshots.

    ingest writes these flags to the column `flags` by default thresholds; choose by them with
    "array_has(flags, 'blurred')". Here they are counted anew, so that other thresholds can be tried; nothing is changed
    without --save. In a lake that an older version made, the images without figures are measured first.

    In the grids, flagged images go from the most extreme to the nearest to the threshold; the last row has those that
    are just not flagged.

    \b
    Examples:
      imagelake quality --lake photos.lake --out flags
      imagelake quality --lake photos.lake --threshold blurred=0.8 --threshold tiny=100 --save
      imagelake sql "select uris[1] from images where array_has(flags, 'blurred')" --lake photos.lake
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of them
    from imagelake.pixels.quality import thresholds_from
    from imagelake.run.quality import QualityOptions
    from imagelake.run.quality import quality as find

    options = QualityOptions(thresholds_from(threshold or []), where, out, save)
    tables = imagelake.open(lake).tables
    with progress_bar() as bar:
        report = find(tables, options, bar)
    if json:
        write_json(report)
    else:
        _write_report(report, out)


def _write_report(report: QualityReport, out: str | None) -> None:
    if not report.images:
        write_line("No images to look at.")
        return
    rows = [(flag.name, f"{flag.count:,}", f"{flag.share:.1%}", flag.rule) for flag in report.flags]
    write_table(["flag", "images", "share", "where"], rows, right=["images", "share"])
    write_line(f"\n{report.flagged:,} of {report.images:,} images have a flag ({report.seconds:,.1f} s).")
    if report.measured:
        write_note(f"{report.measured:,} had no figures yet; they have now, and flags by the default thresholds.")
    if report.unreadable:
        write_note(f"{report.unreadable:,} cannot be decoded any more and have no flags.")
    if report.saved:
        write_note("The column `flags` has these.")
    elif report.differing:
        write_note(f"The column `flags` has others for {report.differing:,} images; --save writes these.")
    if out is not None:
        write_note(f"Grids: {out}")
