"""`imagelake datasets`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagelake.cli.output import JsonOption, write_json, write_line


class Name(StrEnum):
    """Which data set."""

    STL10 = "stl10"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(help="Get public data sets, to try things on.", no_args_is_help=True, rich_markup_mode=None)
    group.command()(get)
    group.callback()(_root)
    app.add_typer(group, name="datasets")


def _root() -> None:
    """Get public data sets, to try things on."""


def get(
    name: Annotated[Name, typer.Argument(help="Which data set.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to.  [default: a folder of its name]", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another address of the same archive.", show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Download a data set, check it, unpack it. Stopped, it goes on from there the next time.

    stl10 is 2.6 GB from Stanford, for research: 113,000 pictures of 96 x 96, 13,000 of them with one of ten labels
    (Coates, Ng and Lee, "An Analysis of Single Layer Networks in Unsupervised Feature Learning", AISTATS 2011). Its
    archive must have the MD5 91f7769df0f17e558f3565bffb0c7dfb.

    \b
    Examples:
      imagelake datasets get stl10 --to stl10
      imagelake ingest stl10:stl10 --lake stl10.lake
    """
    from imagelake.cli.bar import download_bar  # late: --help needs neither
    from imagelake.sources import stl10_download

    folder = to or Path(name.value)
    with download_bar() as show:
        stl10_download.download_stl10(folder, url or stl10_download.URL, show)
    if json:
        write_json({"name": name.value, "folder": str(folder)})
    else:
        write_line(
            f"{folder} holds {name.value}. Next: imagelake ingest {name.value}:{folder} --lake {name.value}.lake"
        )
