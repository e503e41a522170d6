"""`imagelake tag`."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note, write_table


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(tag)


def tag(
    lake: LakeOption,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Which images, such as \"camera_model = 'Doorbell'\".", show_default=False),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="A tag to give them; again for more.", show_default=False)
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="A tag to take away.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Give images tags, or take tags away; without --where, show the tags and how many images have each.

    Tags are the column `tags`, which any --where and `imagelake sql` can ask for: array_has(tags, 'best').

    \b
    Examples:
      imagelake tag --lake photos.lake --where "year(taken_at) = 2024" --add holiday
      imagelake tag --lake photos.lake --where "array_has(tags, 'holiday')" --remove holiday --add "summer 2024"
      imagelake tag --lake photos.lake
    """
    from imagelake.run import tags  # late: --help needs it not

    tables = imagelake.open(lake).tables
    if where is None:
        if add or remove:
            raise typer.BadParameter("say which images with --where; --where true means all", param_hint="--where")
        counts = tags.count_tags(tables)
        if json:
            write_json(counts)
        elif counts:
            write_table(["tag", "images"], [(name, f"{count:,}") for name, count in counts.items()])
        else:
            write_note("No image has a tag yet. Give some one with --where and --add.")
        return
    report = tags.tag(tables, where, add or (), remove or ())
    if json:
        write_json(report)
    else:
        write_line(f"{report.images:,} images, {report.changed:,} of them changed.")
