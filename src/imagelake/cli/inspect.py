"""`imagelake info`, `sql` and `rejections`: look at what is there."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_table
from imagelake.files import display_name


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (info, sql, rejections):
        app.command()(verb)


def info(lake: LakeOption, json: JsonOption = False) -> None:
    """Show what is in a lake, in a few numbers.

    \b
    Example:
      imagelake info --lake photos.lake
    """
    found = imagelake.open(lake).info()
    if json:
        write_json(found)
        return
    formats = ", ".join(f"{name} {count:,}" for name, count in found.formats.items())
    taken = f"{found.taken_from[:10]} to {found.taken_to[:10]}" if found.taken_from and found.taken_to else "not known"
    rows: list[tuple[str, object]] = [
        ("lake", found.root),
        ("images", f"{found.images:,} ({formats})" if formats else "0"),
        ("seen under", f"{found.uris:,} URIs"),
        ("bytes", f"{found.image_bytes:,}"),
        ("with GPS", f"{found.with_gps:,}"),
        ("taken", taken),
        ("regions", f"{found.regions:,}"),
        ("predictions", f"{found.predictions:,}"),
        ("rejections", f"{found.rejections:,}"),
    ]
    for embedding_set in found.embedding_sets:
        size = "x".join(map(str, embedding_set.input_size_wh or ()))
        made = f"{embedding_set.precision}, " + (f"{size} px, " if size else "")
        made += f"{embedding_set.pooling} pooling, {embedding_set.metric}"
        of = f"of regions by {embedding_set.detector}, " if embedding_set.detector else ""
        count = f"{embedding_set.vectors:,} vectors of {embedding_set.dimensions:,}"
        rows.append((embedding_set.name, f"{count} ({of}{made})"))
    write_table(["what", "value"], rows)


def sql(
    query: Annotated[
        str,
        typer.Argument(help='One SELECT over images, regions, predictions, rejections, receipts, "embeddings/NAME".'),
    ],
    lake: LakeOption,
    json: JsonOption = False,
) -> None:
    """Ask the tables in SQL.

    It is DuckDB's SQL. A query reads, and sees the lake and nothing else.

    \b
    Examples:
      imagelake sql "select camera_model, count(*) from images group by 1" --lake photos.lake
      imagelake sql "select uris[1], sharpness from images order by 2 limit 9" --lake photos.lake
    """
    answer = imagelake.open(lake).sql(query)
    if json:
        write_json(answer.to_pylist())
    else:
        write_table(answer.column_names, zip(*(column.to_pylist() for column in answer.columns), strict=True))


def rejections(lake: LakeOption, json: JsonOption = False) -> None:
    """List what could not become an image, and why.

    \b
    Example:
      imagelake rejections --lake photos.lake
    """
    rows = imagelake.open(lake).rejections().to_pylist()
    if json:
        write_json(rows)
    elif not rows:
        write_line("No rejections.")
    else:
        write_table(
            ["file", "stage", "reason", "uri"],
            [(display_name(r["uri"]), r["stage"], r["reason"], r["uri"]) for r in rows],
        )
