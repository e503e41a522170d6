"""The command `imagelake`: its verbs, and what becomes of an error."""

from __future__ import annotations

import io
import sys

import typer

from imagelake import __version__
from imagelake.cli import (
    bench,
    classify,
    codes,
    datasets,
    demo,
    duplicates,
    events,
    export,
    extract,
    function,
    ingest,
    inspect,
    models,
    notebook,
    places,
    quality,
    receive,
    runs,
    search,
    serve,
    service,
    tag,
    upkeep,
)
from imagelake.cli import map as map_verb
from imagelake.cli.output import write_line, write_note
from imagelake.errors import ImagelakeError

app = typer.Typer(
    name="imagelake",
    help="Turn any pile of pictures into a lake that can be searched, queried, learned from and served.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain pages: drawing them with rich costs twice the time of everything else
)
for _module in (
    demo,
    notebook,
    datasets,
    ingest,
    receive,
    extract,
    search,
    classify,
    serve,
    service,
    function,
    events,
    codes,
    duplicates,
    quality,
    places,
    map_verb,
    tag,
    export,
    models,
    inspect,
    runs,
    upkeep,
    bench,
):
    _module.register(app)


def _version(asked: bool) -> None:
    if asked:
        write_line(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Turn any pile of pictures into a lake that can be searched, queried, learned from and served."""


def run() -> None:
    """Run the command line. An error that a user can mend is one line on stderr and exit code 1."""
    # A lake holds names in any script, whatever the terminal was told.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app()
    except (ImagelakeError, OSError) as error:  # an OSError that reaches this place is of stdout: a full disk
        write_note(f"imagelake: {error}")
        sys.exit(1)
