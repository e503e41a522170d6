"""`imagelake places`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_table

if TYPE_CHECKING:
    from imagelake.run.places import PlacesReport

_COUNTRIES_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(places)


def places(
    lake: LakeOption,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Only the images for which this holds.  [default: all]", show_default=False),
    ] = None,
    farthest: Annotated[
        float, typer.Option(metavar="KM", help="Take no place that is farther away, in kilometers.")
    ] = 100.0,
    json: JsonOption = False,
) -> None:
    """Find country and place of the images that have a GPS position. No network is needed.

    Fills the columns country_code, country and place of images that have none yet. The place is the nearest one with
    1,000 inhabitants or more; in a large city that may be one of its quarters. The data are from GeoNames. Needs the
    extra geo.

    \b
    Examples:
      imagelake places --lake photos.lake
      imagelake places --lake photos.lake --where "taken_at >= '2024-01-01'" --json
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.run.places import find_places

    tables = imagelake.open(lake).tables
    with progress_bar() as bar:
        report = find_places(tables, where, farthest_km=farthest, progress=bar)
    if json:
        write_json(report)
    else:
        _write_report(report)


def _write_report(report: PlacesReport) -> None:
    if not report.found:
        write_line("No image has a GPS position and no place yet: nothing to do.")
        return
    write_line(
        f"Placed: {report.placed:,} of {report.found:,} with a position. "
        f"Farther than {report.farthest_km:g} km from any place: {report.too_far:,}."
    )
    if report.countries:
        write_line("")
        shown = list(report.countries.items())[:_COUNTRIES_SHOWN]
        write_table(["country", "images"], shown, right=["images"])
        if len(report.countries) > len(shown):
            write_line(f"and {len(report.countries) - len(shown):,} countries more")
