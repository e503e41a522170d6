"""`imagelake demo`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from imagelake.cli.output import JsonOption, write_json, write_line, write_table
from imagelake.cli.page_opening import has_desktop, is_interactive

_NEXT = """
Next:
  {command} serve --lake {lake}
  {command} info --lake {lake}
  {command} search YOUR_PICTURE.jpg --lake {lake} --grid found.png
  {command} sql "select format, count(*) from images group by 1" --lake {lake}
  {command} ingest ~/Pictures --lake photos.lake && {command} extract --lake photos.lake"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option(help="The folder that everything is put into.")] = Path("demo"),
    photos: Annotated[Path | None, typer.Option(help="Your own folder of pictures.", show_default=False)] = None,
    open_page: Annotated[
        bool | None,
        typer.Option("--open/--no-open", show_default=False,
                     help="Serve the page of the lake at the end, and open it.  [default: in a terminal]"),
    ] = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Run the whole job on sample photos, or on your own folder; then look at it on a page.

    \b
    Example:
      imagelake demo --photos ~/Pictures
    """
    from imagelake.cli.bar import progress_bar  # late: --help draws none
    from imagelake.demo import run_demo  # late: it loads what --help does not need

    with progress_bar() as bar:
        report = run_demo(out, photos, bar)
    if json:
        write_json(report)
        return
    if report.found:
        columns = ["altered copies", "copies", "original before other photos", "and before its other copies"]
        write_table(columns, [dataclasses.astuple(found) for found in report.found], right=columns[1:])
        copies = sum(found.copies for found in report.found)
        before = sum(found.before_other_photos for found in report.found)
        first = sum(found.before_all for found in report.found)
        write_line(
            f"\nOf {copies} altered copies, {before} ({before / copies:.0%}) found their original before any other "
            f"photo, {first} ({first / copies:.0%}) even before the other copies of it."
        )
    write_line(
        f"\n{report.ingest.found} pictures from {report.photos}: {report.ingest.added} added, "
        f"{report.ingest.known} known, {report.ingest.rejected} rejected\n"
        f"Lake:  {report.lake}\nGrid:  {report.grid}  <- open this: five random pictures and their nearest"
    )
    write_line(_NEXT.format(lake=report.lake, command=_command()))
    if is_interactive() if open_page is None else open_page:
        _serve(report.lake)


def _serve(lake: str) -> None:
    """Serve the page of the lake until Ctrl-C."""
    from imagelake.cli.serving import ServeOptions, serve  # late: it loads what --help does not need

    write_line("\nServing the page of the lake; Ctrl-C ends it.")
    serve(ServeOptions(lake=lake, listen="127.0.0.1:0", log_level="warning", open_page=has_desktop()))


def _command() -> str:
    """What to type for `imagelake`: its path where the environment that it is installed in is not active."""
    return "imagelake" if shutil.which("imagelake") else os.path.relpath(sys.argv[0])
