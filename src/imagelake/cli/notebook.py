"""`imagelake notebook`."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from imagelake.cli.output import JsonOption, write_json, write_line, write_note
from imagelake.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(notebook)


def notebook(
    lake: Annotated[
        str | None,
        typer.Option("--lake", "-l", metavar="LAKE", show_default=False,
                     help="A lake that the notebooks open; without one, they make their own of sample photos."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the notebooks are put, and kept.")
    ] = Path("notebooks"),
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: any free one.")] = "127.0.0.1:8888",
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password here, instead of making one up.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The password is the first line of it.", show_default=False)
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Start JupyterLab behind a password, with the published demo as a notebook.

    Two notebooks are put into the folder, image_search.ipynb and lakehouse.ipynb; those that are there already stay as
    they are. The password is made up and printed once, or is that of $IMAGELAKE_NOTEBOOK_PASSWORD, --password-file or
    --password. Whoever knows it can run any program as you. Ctrl-C ends all. It needs the extra notebook.

    \b
    Examples:
      imagelake notebook
      imagelake notebook --lake photos.lake --listen 127.0.0.1:9999 --no-browser
    """
    from imagelake.cli import jupyter  # late: --help needs none of these
    from imagelake.serve.listening import is_loopback, read_address
    from imagelake.serve.listening import listen as listen_on

    jupyter.require_jupyter()
    word, made_up = _password(ask=password, file=password_file)
    root = None if lake is None else _root_of(lake)
    host, port = read_address(listen)
    with listen_on(host, port) as free:  # says in one line what is wrong with an address
        port = free.getsockname()[1]
    place = folder.absolute()
    for kept in jupyter.copy_notebooks(place):
        write_note(f"{kept} is not as it was shipped, and was left as it is. Move it away to get ours.")
    if not is_loopback(host):
        write_note("Other machines can reach this address, and what is sent to it, the password too, is not encrypted.")

    def ready(address: str) -> None:
        if json:
            write_json({
                "address": address, "folder": str(place), "lake": root, "password": word if made_up else None,
            })  # fmt: skip
        else:
            write_line(f"Notebooks: {place}\nAddress:   {address}")
            write_line(f"Password:  {word}   (made up, for this run only)" if made_up else "Password:  as given")
            write_line("Ctrl-C ends it.")
        sys.stdout.flush()  # who reads it waits for it

    options = jupyter.NotebookOptions(place, host, port, word, root, not no_browser and not json)
    jupyter.run_jupyter(options, ready)


def _password(*, ask: bool, file: Path | None) -> tuple[str, bool]:
    """The password, and whether it was made up. Never from the command line, which every user of a machine sees."""
    from imagelake.cli.jupyter import PASSWORD_VARIABLE, SHORTEST_PASSWORD

    if ask and file is not None:
        raise InputError("--password and --password-file are both given. Give one of them.")
    given = os.environ.get(PASSWORD_VARIABLE)
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read as text. Give another --password-file.") from error
    elif ask:
        given = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if given is None:
        return secrets.token_urlsafe(12), True
    if len(given) < SHORTEST_PASSWORD:
        raise InputError(f"The password has {len(given)} letters. Give {SHORTEST_PASSWORD} or more.")
    return given, False


def _root_of(lake: str) -> str:
    """The lake's address, from wherever a notebook opens it."""
    from imagelake.lake.tables import open_tables

    return open_tables(lake).root
