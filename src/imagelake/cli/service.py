"""`imagelake service`: small services that speak GraphPipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagelake.cli.models_add import FolderOption
from imagelake.cli.output import write_json, write_line

if TYPE_CHECKING:
    from imagelake.serve.plane import Plane
    from imagelake.serve.services import Kind

_MB = 1 << 20

_app = typer.Typer(help="Serve one step of classification as a process that speaks GraphPipe.", no_args_is_help=True,
                   rich_markup_mode=None)  # fmt: skip

ListenOption = Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: any free one, which is printed.")]
NextOption = Annotated[
    str | None,
    typer.Option("--next", metavar="URL", help="The service that gets what this one has; its key is "
                 "$IMAGELAKE_NEXT_API_KEY.", show_default=False),
]  # fmt: skip
WaitOption = Annotated[float, typer.Option("--wait", min=0.0, metavar="S", help="For how long to wait for --next.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="A classifier.  [default: the built-in one]",
                             show_default=False),
]  # fmt: skip
PrivateOption = Annotated[
    bool, typer.Option("--allow-private", help="Fetch from private addresses too, such as those of this machine.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--api-key-file", metavar="FILE", show_default=False,
                 help="Keys, one a line: KEY or NAME:KEY.  [default: $IMAGELAKE_API_KEY]"),
]  # fmt: skip
NoKeyOption = Annotated[
    bool, typer.Option("--no-key", help="Let everybody ask who reaches the address, also from other machines.")
]
SizeOption = Annotated[int, typer.Option("--max-mb", min=1, help="The largest request, in MiB.")]
TimeOption = Annotated[float, typer.Option("--timeout", min=0.1, metavar="S", help="How long a request may take.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout when it is ready.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.add_typer(_app, name="service")


@_app.command()
def downloader(
    listen: ListenOption = "127.0.0.1:3000",
    next_url: NextOption = None,
    wait: WaitOption = 60.0,
    allow_private: PrivateOption = False,
    api_key_file: KeyOption = None,
    no_key: NoKeyOption = False,
    max_mb: SizeOption = 64,
    timeout: TimeOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Fetch the pictures at a tensor of addresses, and give their bytes, or what the next service makes of them.

    Several are fetched at a time. Private addresses are refused, after redirects too. One that cannot be fetched is an
    error that says which.

    Example: imagelake service downloader --next http://127.0.0.1:4000
    """
    _run("downloader", listen, api_key_file, max_mb, timeout, no_key=no_key, json=json, next_url=next_url, wait=wait,
         allow_private=allow_private)  # fmt: skip


@_app.command()
def preprocessor(
    listen: ListenOption = "127.0.0.1:4000",
    next_url: NextOption = None,
    wait: WaitOption = 60.0,
    model: ModelOption = None,
    models: FolderOption = None,
    api_key_file: KeyOption = None,
    no_key: NoKeyOption = False,
    max_mb: SizeOption = 64,
    timeout: TimeOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Make the tensor of a classifier from encoded pictures, and give it, or what the next service makes of it.

    Example: imagelake service preprocessor --next http://127.0.0.1:9000
    """
    _run("preprocessor", listen, api_key_file, max_mb, timeout, no_key=no_key, json=json, next_url=next_url, wait=wait,
         model=model, models=models)  # fmt: skip


@_app.command()
def classifier(
    listen: ListenOption = "127.0.0.1:9000",
    model: ModelOption = None,
    models: FolderOption = None,
    api_key_file: KeyOption = None,
    no_key: NoKeyOption = False,
    max_mb: SizeOption = 64,
    timeout: TimeOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Classify prepared tensors, or encoded pictures: probabilities, and the best label.

    Example: imagelake service classifier --listen 127.0.0.1:9000
    """
    _run("classifier", listen, api_key_file, max_mb, timeout, no_key=no_key, json=json, model=model, models=models)


@_app.command()
def pipeline(
    listen: ListenOption = "127.0.0.1:3000",
    model: ModelOption = None,
    models: FolderOption = None,
    allow_private: PrivateOption = False,
    api_key_file: KeyOption = None,
    no_key: NoKeyOption = False,
    max_mb: SizeOption = 64,
    timeout: TimeOption = 30.0,
    json: JsonOption = False,
) -> None:
    """All three in one process: addresses and pictures in, at one place; probabilities and labels out.

    Example: imagelake service pipeline, and then: imagelake classify photo.jpg --server http://127.0.0.1:3000
    """
    _run("pipeline", listen, api_key_file, max_mb, timeout, no_key=no_key, json=json, model=model, models=models,
         allow_private=allow_private)  # fmt: skip


def _run(
    kind: Kind,
    listen: str,
    api_key_file: Path | None,
    max_mb: int,
    timeout_s: float,
    *,
    no_key: bool,
    json: bool,
    next_url: str | None = None,
    wait: float = 0.0,
    model: str | None = None,
    models: Path | None = None,
    allow_private: bool = False,
) -> None:
    from imagelake.cli.models_add import registry_of  # late: --help needs none of them
    from imagelake.serve.api_keys import read_key_file, read_keys
    from imagelake.serve.downloads import DownloadOptions
    from imagelake.serve.graphpipe_client import AskOptions
    from imagelake.serve.next_hop import find_next_hop
    from imagelake.serve.service_process import ProcessOptions, run_process
    from imagelake.serve.services import ServiceOptions, load_service
    from imagelake.serve.site import Limits

    given = os.environ.get("IMAGELAKE_API_KEY")
    keys = read_key_file(api_key_file) if api_key_file else read_keys(given, "IMAGELAKE_API_KEY") if given else None
    size = max_mb * _MB
    limits = Limits(max_body=size, timeout_s=timeout_s, body_timeout_s=timeout_s, body_budget=max(512 * _MB, 2 * size))
    fetched = DownloadOptions(allow_private, max_bytes=size, max_total_bytes=size, timeout_s=0.8 * timeout_s)
    options = ServiceOptions(model, registry_of(models), fetched, limits.max_pixels, size, timeout_s)
    asking = AskOptions(timeout_s=timeout_s, api_key=os.environ.get("IMAGELAKE_NEXT_API_KEY") or None)

    def load(plane: Plane) -> None:
        following = find_next_hop(next_url, asking, wait) if next_url else None
        load_service(kind, plane, options, following)

    def say(address: str, plane: Plane) -> None:
        told = {"listening": address, "service": kind, "models": plane.names()}
        if json:
            write_json(told)
        else:
            write_line(f"{kind} at {address}. Ctrl-C ends it.")

    process = ProcessOptions(listen, keys, no_key, limits, json=json)
    run_process(load, process, say)
