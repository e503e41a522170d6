"""`imagelake delete`, `optimize`, `versions`, `tag-version` and `restore`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note, write_table

if TYPE_CHECKING:
    from imagelake.run.upkeep import DeleteReport


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(delete)
    app.command()(optimize)
    app.command()(versions)
    app.command("tag-version")(tag_version)
    app.command()(restore)


def delete(
    lake: LakeOption,
    where: Annotated[
        str, typer.Option(metavar="SQL", help="Which images, such as \"id = '0a1b...'\".", show_default=False)
    ],
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete them. Without it, only say what would be deleted.")
    ] = False,
    drop_tags: Annotated[
        bool, typer.Option("--drop-tags", help="Take the names of versions away, which would keep what is deleted.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Delete images for good: bytes, vectors, regions, predictions and index entries.

    Nothing of them is left in the lake's tables, also not in older versions; files that a killed writer left go once
    they are an hour old. There is no way back. The files that the images came from are not touched: ingest them again,
    and they are there again.

    \b
    Examples:
      imagelake delete --lake photos.lake --where "camera_model = 'Doorbell'"
      imagelake delete --lake photos.lake --where "camera_model = 'Doorbell'" --yes
    """
    from imagelake.run import upkeep  # late: --help needs it not

    report = upkeep.delete(imagelake.open(lake).tables, where, really=yes, drop_tags=drop_tags)
    if json:
        write_json(report)
        return
    write_line(_told(report))
    if not report.done and report.images:
        if report.tags:
            write_note(f"The versions {', '.join(report.tags)} would keep them: add --drop-tags.")
        write_note("Nothing was deleted. To delete them for good, add --yes.")


def _told(report: DeleteReport) -> str:
    others = "".join(f", {count:,} rows of {name}" for name, count in report.rows.items())
    what = f"{report.images:,} images with {report.bytes:,} bytes{others}"
    if not report.done:
        return f"Would delete {what}."
    return f"Deleted {what}; freed {report.bytes_freed:,} bytes on disk."


def optimize(
    lake: LakeOption,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0.0, help="Drop versions of this age that have no name.")
    ] = 1.0,
    json: JsonOption = False,
) -> None:
    """Fold small pieces of the tables into larger ones, index large ones, and drop old versions that have no name.

    Every ingest folds and drops at its end; this is for lakes that are written by many small commits. From 100,000
    images on, the columns that people filter by get an index. A --where uses it where it compares a column with a
    value.

    \b
    Examples:
      imagelake optimize --lake photos.lake
      imagelake optimize --lake photos.lake --older-than 30
    """
    from imagelake.run import upkeep

    report = upkeep.optimize(imagelake.open(lake).tables, older_than=timedelta(days=older_than))
    if json:
        write_json(report)
        return
    write_line(f"Folded {', '.join(report.folded)}." if report.folded else "Nothing had to be folded.")
    if report.indexed:
        write_line(f"Indexed {', '.join(report.indexed)}.")


def versions(lake: LakeOption, json: JsonOption = False) -> None:
    """List the versions of the tables that can be gone back to.

    \b
    Example:
      imagelake versions --lake photos.lake
    """
    from imagelake.run import upkeep

    found = upkeep.versions(imagelake.open(lake).tables)
    if json:
        write_json(found)
        return
    rows = (
        (name, each.number, f"{each.committed_at:%Y-%m-%d %H:%M:%S} UTC", f"{each.rows:,}", ", ".join(each.tags))
        for name, all_of_it in found.items()
        for each in all_of_it
    )
    write_table(["table", "version", "committed", "rows", "names"], rows, right=["version", "rows"])


def tag_version(
    name: Annotated[str, typer.Argument(help="Letters, digits, '.', '_' and '-'.")],
    lake: LakeOption,
    json: JsonOption = False,
) -> None:
    """Give the lake as it is now a name, to go back to with `imagelake restore`.

    A named version is kept. It costs the space of what is deleted or replaced later.

    \b
    Example:
      imagelake tag-version before-cleaning --lake photos.lake
    """
    from imagelake.run import upkeep

    tagged = upkeep.tag_version(imagelake.open(lake).tables, name)
    if json:
        write_json({"name": name, "tables": tagged})
    else:
        write_line(f"{len(tagged)} tables are called {name!r} as they are now.")


def restore(
    name: Annotated[str, typer.Argument(help="A name that `imagelake tag-version` gave.")],
    lake: LakeOption,
    json: JsonOption = False,
) -> None:
    """Go back to the state of that name. The state before gets a name too, so this can be undone.

    \b
    Example:
      imagelake restore before-cleaning --lake photos.lake
    """
    from imagelake.run import upkeep

    before = upkeep.restore(imagelake.open(lake).tables, name)
    if json:
        write_json({"restored": name, "before": before})
    else:
        write_line(f"The lake is as it was at {name!r}. To undo: imagelake restore {before} --lake {lake}")
