"""`imagelake duplicates`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note, write_table
from imagelake.errors import InputError
from imagelake.files import display_name

if TYPE_CHECKING:
    from imagelake.run.duplicates import DuplicateOptions, DuplicateReport, GroupedImage

_MEMBERS_SHOWN = 8


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(duplicates)


def duplicates(
    lake: LakeOption,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="KINDS",
            help="What to compare, out of exact,hash,embedding.  [default: all that the lake has]",
            show_default=False,
        ),
    ] = None,
    hash_distance: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            help="The most bits, of 64, in which the perceptual hashes of duplicates differ. Copies in another size or "
            "quality differ in 0 to 4; above 6, other pictures come in.  [default: 4]",
            show_default=False,
        ),
    ] = None,
    embedding_distance: Annotated[
        float | None,
        typer.Option(
            help="The greatest distance of the vectors of duplicates. The default is for cosine and the default model: "
            "small crops and mirrored copies are at 0.01 to 0.1, other photos beyond 0.15.  [default: 0.1]",
            show_default=False,
        ),
    ] = None,
    embedding_set: Annotated[str | None, typer.Option("--set", help="Which embedding set.", show_default=False)] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="OUT.png", help="Draw the groups, the keeper first.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="How many groups to show and to draw.")] = 10,
    json: JsonOption = False,
) -> None:
    """Find duplicates and suggest which to keep. Nothing is deleted.

    exact: the same bytes under several names. hash: the same picture in another size, format or quality. embedding:
    also slight crops and mirrored copies; needs `imagelake extract`.

    Each picture of a group is near the one to keep, not only near another of the group. Kept is the one with the most
    pixels, then the one taken first, then the one in the lake for longest, then the largest file. With --json come all
    groups, whatever --limit says.

    \b
    Examples:
      imagelake duplicates --lake photos.lake --grid duplicates.png
      imagelake duplicates --lake photos.lake --by exact,hash --hash-distance 2 --json
    """
    if limit < 1:
        raise InputError(f"--limit is {limit}; it must be 1 or more.")
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.run.duplicates import duplicates as find
    from imagelake.run.duplicates import save_duplicates_grid

    tables = imagelake.open(lake).tables
    with progress_bar() as bar:
        report = find(tables, _options(by, hash_distance, embedding_distance, embedding_set), bar)
    if grid:
        save_duplicates_grid(tables, report, grid, limit)
    if json:
        write_json(report)
    else:
        _write_report(report, limit)
    for note in report.notes:
        write_note(note)
    if grid and not json:
        write_note(f"Grid: {grid}")


def _options(
    by: str | None, hash_distance: int | None, embedding_distance: float | None, embedding_set: str | None
) -> DuplicateOptions:
    from imagelake.run.duplicates import HASH_DISTANCE, DuplicateOptions

    kinds = None if by is None else tuple(kind.strip() for kind in by.split(",") if kind.strip())
    return DuplicateOptions(
        kinds,  # type: ignore[arg-type]  # `duplicates` refuses what is no kind
        HASH_DISTANCE if hash_distance is None else hash_distance,
        embedding_distance,
        embedding_set,
    )


def _write_report(report: DuplicateReport, limit: int) -> None:
    if not report.images:
        write_line("The lake has no images, so no duplicates.")
        return
    compared = ", ".join(report.by)
    if not report.groups:
        write_line(f"No duplicates among {_count(report.images, 'image')} (compared by {compared}).")
        return
    found = ", ".join(f"{kind} {count:,}" for kind, count in report.by.items())
    write_line(
        f"{_count(report.groups_count, 'group')} of duplicates among {_count(report.images, 'image')}. "
        f"{_count(report.duplicates, 'file')} could go ({found}), which would free {_size(report.bytes_reclaimable)}. "
        "Nothing was deleted.\n"
    )
    columns = ["group", "what", "size", "bytes", "file"]
    write_table(columns, _rows(report, limit), right=["group", "size", "bytes"])
    if report.groups_count > limit:
        write_line(f"\n{report.groups_count - limit:,} more; show them with --limit, or get all with --json.")


def _rows(report: DuplicateReport, limit: int) -> Iterator[tuple[object, ...]]:
    for number, group in enumerate(report.groups[:limit], start=1):
        yield (number, *_row(group.keeper))
        for member in group.members[:_MEMBERS_SHOWN]:
            yield ("", *_row(member))
        more = len(group.members) - _MEMBERS_SHOWN
        if more > 0:
            yield ("", f"and {more:,} more", "", "", "")


def _row(image: GroupedImage) -> tuple[object, ...]:
    from imagelake.run.duplicates import title_of

    name = display_name(image.uris[0]) if image.uris else image.id
    others = f" and {len(image.uris) - 1:,} more" if len(image.uris) > 1 else ""
    return title_of(image), f"{image.width} x {image.height}", f"{image.byte_size:,}", name + others


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return _count(count, "byte")
