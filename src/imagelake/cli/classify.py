"""`imagelake classify`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from imagelake.cli.models_add import FolderOption
from imagelake.cli.output import JsonOption, write_json, write_note, write_table
from imagelake.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(classify)


def classify(
    pictures: Annotated[list[str], typer.Argument(metavar="FILE|URL...", help="Pictures.", show_default=False)],
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", show_default=False,
                     help="A GraphPipe server that classifies; its key is $IMAGELAKE_API_KEY.  [default: here]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", show_default=False,
                                 help="Without a server: a classifier.  [default: the built-in one]"),
    ] = None,
    models: FolderOption = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="How many classes of each picture.")] = 1,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="For each picture.")] = 30.0,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch from private addresses too, such as those of this machine.")
    ] = False,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Say what pictures show: the likeliest class of each, and its probability.

    Files and addresses are classified here, or by a server: an imagelake service, an imagelake serve, or any other
    GraphPipe server that takes pictures. Addresses go to the server where it fetches them itself.

    \b
    Examples:
      imagelake classify cat.jpg https://example.com/dog.jpg
      imagelake classify *.jpg --server http://127.0.0.1:3000 --top 3
    """
    if server is not None and (model is not None or models is not None):
        raise InputError("--model is for classifying here, and --server has its own. Give one of them.")
    from imagelake.cli.models_add import registry_of  # late: --help needs none of them
    from imagelake.serve.classify import ClassifyOptions
    from imagelake.serve.classify import classify as classify_all
    from imagelake.serve.downloads import DownloadOptions
    from imagelake.serve.graphpipe_client import AskOptions

    options = ClassifyOptions(
        server,
        model,
        registry_of(models),
        top,
        DownloadOptions(allow_private, timeout_s=timeout),
        AskOptions(timeout_s=timeout, api_key=os.environ.get("IMAGELAKE_API_KEY") or None),
    )
    found = list(classify_all(pictures, options))
    if json:
        write_json({"pictures": found})
    else:
        rows = [(one.picture, each.label, f"{each.probability:.4f}") for one in found for each in one.classes]
        if rows:
            write_table(("picture", "class", "probability"), rows, right=("probability",))
        for one in found:
            if one.error:
                write_note(f"{one.picture}: {one.error}")
    if any(one.error for one in found):
        raise typer.Exit(1)
