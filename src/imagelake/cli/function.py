"""`imagelake function`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagelake.cli.output import JsonOption, write_json, write_line, write_note
from imagelake.errors import InputError

_app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

ModelOption = Annotated[
    str | None,
    typer.Option(
        envvar="IMAGELAKE_FUNCTION_MODEL",
        metavar="NAME",
        help="A classifier; else the built-in one.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.add_typer(_app, name="function")


@_app.callback()
def function(
    context: typer.Context,
    model: ModelOption = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", envvar="IMAGELAKE_FUNCTION_ALLOW_PRIVATE",
            help="Fetch from private addresses too, such as those of this machine.",
        ),
    ] = False,
    listener: Annotated[
        str | None,
        typer.Option(envvar="FN_LISTENER", metavar="unix:PATH", help="Where to listen.", show_default=False),
    ] = None,
    fn_format: Annotated[str, typer.Option("--format", envvar="FN_FORMAT", hidden=True)] = "http-stream",
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Classify pictures as a function of an Fn platform.

    The platform starts it in a container and says in FN_LISTENER where to listen. A call is
    {"name": "https://.../x.jpg"}, its answer {"id": "...", "message": "result_class=..., probability=..."}.

    \b
    Examples:
      imagelake function init classify
      FN_LISTENER=unix:/tmp/classify.sock imagelake function
      curl --unix-socket /tmp/classify.sock -d '{"name": "https://.../x.jpg"}' http://function/call
    """
    if context.invoked_subcommand is not None:
        return
    if fn_format != "http-stream":
        raise InputError(f"FN_FORMAT is {fn_format!r}; this function speaks http-stream only.")
    if not listener:
        raise InputError("FN_LISTENER is not set; a platform says there where to listen. Give unix:/PATH.")
    from imagelake.serve.downloads import DownloadOptions  # late: --help needs none of them
    from imagelake.serve.function import FunctionOptions, run_function

    options = FunctionOptions(model or None, DownloadOptions(allow_private=allow_private, max_count=1))
    told = listener
    ready = (lambda: write_json({"listening": told})) if json else (lambda: write_note(f"Listening at {told}."))
    run_function(listener, options, ready)


@_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; it is made where there is none.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Write func.yaml and Dockerfile, from which `fn deploy` makes the function.

    Example: imagelake function init classify
    """
    from imagelake.serve.function_files import write_function_files

    paths = [str(path) for path in write_function_files(folder)]
    if json:
        write_json({"files": paths})
        return
    for path in paths:
        write_line(path)


@_app.command()
def prepare(model: ModelOption = None, json: JsonOption = False) -> None:
    """Open the model once, so that what is built from its weights is there before the first call.

    Example: imagelake function prepare
    """
    from imagelake.serve.function import FunctionOptions, open_function_model

    opened = open_function_model(FunctionOptions(model or None))
    if json:
        write_json({"model": opened.name, "ready": True})
    else:
        write_line(f"{opened.name} is ready.")
    opened.close()
