"""`imagelake search`."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_note, write_table
from imagelake.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(search)


def search(
    lake: LakeOption,
    picture: Annotated[str | None, typer.Argument(help="The query: a picture's path.", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", help="How many matches.")] = 3,
    grid: Annotated[
        str | None, typer.Option(metavar="OUT.png", help="Draw query and matches.", show_default=False)
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="PREDICATE", help="Search only images for which this SQL holds.", show_default=False),
    ] = None,
    exclude_self: Annotated[bool, typer.Option("--exclude-self", help="Leave out the query itself.")] = False,
    random: Annotated[
        int | None, typer.Option(metavar="N", help="N random images of the lake as queries.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same random images again.", show_default=False)] = None,
    embedding_set: Annotated[
        str | None, typer.Option("--set", help="Which embedding set; regions: the one of regions.", show_default=False)
    ] = None,
    codes: Annotated[bool, typer.Option("--codes", help="Search by binary codes: see `imagelake codes`.")] = False,
    coder: Annotated[
        str | None, typer.Option(help="With --codes: whose codes, where there are several.", show_default=False)
    ] = None,
    rerank: Annotated[
        int, typer.Option(metavar="N", help="With --codes: compare the N nearest again by their vectors.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Find the images nearest to a picture.

    Exact: the nearest of all, ordered by distance, then id. A picture that is in the lake is its own first match.

    \b
    Examples:
      imagelake search cat.jpg --lake photos.lake -k 5 --grid out.png
      imagelake search shoe.jpg --lake shop.lake --set regions
      imagelake search --random 5 --lake photos.lake --grid out.png
      imagelake search cat.jpg --lake photos.lake --where "latitude is not null"
      imagelake search cat.jpg --lake photos.lake --codes --rerank 100
    """
    if (picture is None) == (random is None):
        raise InputError("Give either a picture or --random N. Example: imagelake search cat.jpg --lake photos.lake")
    options = imagelake.SearchOptions(k, where, exclude_self, embedding_set, codes, coder, rerank)
    opened = imagelake.open(lake)
    if random is not None:
        found = opened.search_random(random, options, seed=seed, out=grid)
        if json:
            write_json([{"query": query, "matches": matches} for query, matches in found.items()])
        else:
            _tell([(query[:12], match) for query, matches in found.items() for match in matches])
    elif picture is not None:
        matches = opened.search_grid(picture, grid, options) if grid else _plain_search(opened, picture, options)
        if json:
            write_json(matches)
        else:
            _tell([(None, match) for match in matches])
    missing = opened.without_vector(embedding_set)
    if missing:
        write_note(f"{missing:,} images have no vector yet and were not searched. Run: imagelake extract --lake {lake}")
    if grid and not json:
        write_note(f"Grid: {grid}")


def _tell(found: list[tuple[str | None, imagelake.Match]]) -> None:
    """A table, with label and box where regions were compared."""
    of_many, of_regions = any(query for query, _ in found), any(match.box_xyxy for _, match in found)
    columns = ["query"] * of_many + ["distance"] + ["label", "box"] * of_regions + ["uri"]
    rows = []
    for query, match in found:
        row: list[object] = [query] if of_many else []
        row.append(f"{match.distance:.4f}")
        if of_regions:
            row += [match.label or "", " ".join(f"{side:.2f}" for side in match.box_xyxy or ())]
        rows.append((*row, match.uri))
    write_table(columns, rows, right=["distance"])


def _plain_search(lake: imagelake.Lake, picture: str, options: imagelake.SearchOptions) -> list[imagelake.Match]:
    return lake.search(
        picture,
        options.k,
        where=options.where,
        exclude_self=options.exclude_self,
        embedding_set=options.embedding_set,
        codes=options.codes,
        coder=options.coder,
        rerank=options.rerank,
    )
