"""`imagelake demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagelake.cli.output import JsonOption, progress_bar, write_json, write_line, write_table


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="The folder that everything is put into.")] = Path("demo"),
    photos: Annotated[Path | None, typer.Option(help="Your own folder of pictures.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Run the main job on sample photos and altered copies of them, or on your own folder.

    Example: `imagelake demo --photos ~/Pictures`
    """
    from imagelake.demo import run_demo  # late: it loads what --help does not need

    with progress_bar() as bar:
        report = run_demo(out, photos, bar)
    if json:
        write_json(report)
        return
    if report.found:
        columns = ["altered copies", "copies", "original first", "original or a copy of it first"]
        rows = [(f.alteration, f.copies, f.original_first, f.original_or_copy_first) for f in report.found]
        write_table(columns, rows, right=columns[1:])
        copies = sum(f.copies for f in report.found)
        first = sum(f.original_first for f in report.found)
        family = sum(f.original_or_copy_first for f in report.found)
        write_line(
            f"\nOf {copies} altered copies, {first} ({first / copies:.0%}) found their original first, "
            f"and {family} ({family / copies:.0%}) their original or another copy of it."
        )
    write_line(
        f"\n{report.ingest.found} pictures from {report.photos}: {report.ingest.added} added, "
        f"{report.ingest.known} known, {report.ingest.rejected} rejected\n"
        f"Lake:  {report.lake}\nGrid:  {report.grid}  <- open this: five random pictures and their nearest\n\n"
        "Next:\n"
        f"  imagelake info --lake {report.lake}\n"
        f"  imagelake search YOUR_PICTURE.jpg --lake {report.lake} --grid found.png\n"
        f'  imagelake sql "from images" --lake {report.lake}\n'
        "  imagelake ingest ~/Pictures --lake photos.lake && imagelake extract --lake photos.lake"
    )
