"""`imagelake serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imagelake.cli.models_add import FolderOption
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.serve.api_keys import Keys

_MB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(serve)


def serve(
    lake: Annotated[
        str | None,
        typer.Option("--lake", metavar="LAKE", help="Serve the search and the images of a lake too.",
                     show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME|FILE", show_default=False,
            help="A model by its name or file; may be given again. The first answers callers who name none.  "
            "[default: $GP_MODEL, or the default model]",
        ),
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0: any free one.")] = "127.0.0.1:9000",
    grpc: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Speak gRPC there; needs the extra grpc.", show_default=False),
    ] = None,
    models: FolderOption = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False,
                     help="Keys that callers show, one a line: KEY or NAME:KEY.  [default: $IMAGELAKE_API_KEY]"),
    ] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let everybody ask who reaches the address, also from other machines.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speak HTTPS: the certificate, in PEM.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key of the certificate.", show_default=False)
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", show_default=False,
                     help="Pages of this site may ask from a browser, such as https://example.com."),
    ] = None,
    allow_load: Annotated[
        bool,
        typer.Option("--allow-load",
                     help="Callers may load and unload models by name: the built-in ones, and those of --models.")
    ] = False,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="/metrics needs no key.")] = False,
    write: Annotated[
        bool,
        typer.Option("--write", help="Whoever shows a key may tag and add images on the page of the lake.")
    ] = False,
    open_page: Annotated[
        bool | None,
        typer.Option("--open/--no-open", show_default=False,
                     help="Open the page of the lake in a browser.  [default: where this terminal has a desktop]"),
    ] = None,
    rate_limit: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", help="Requests a second of each key, or each address without keys.",
                     show_default=False),
    ] = None,
    max_mb: Annotated[int, typer.Option(min=1, metavar="MIB", help="The largest request.")] = 64,
    memory_mb: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="For the bodies of all requests together.")
    ] = 512,
    max_concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests at work at once; more are refused.")
    ] = 256,
    timeout: Annotated[float, typer.Option(min=0.01, metavar="S", help="How long a request may take.")] = 30.0,
    drain: Annotated[
        float, typer.Option(min=0.0, metavar="S", help="For how long requests are still taken after SIGTERM.")
    ] = 1.0,
    max_queue: Annotated[int, typer.Option(min=1, metavar="N", help="Requests that may wait for a model.")] = 256,
    max_batch: Annotated[
        int | None,
        typer.Option(min=0, metavar="ROWS", help="Rows of a batch; 0: none.  [default: what the model takes well]",
                     show_default=False),
    ] = None,
    max_delay_ms: Annotated[
        float, typer.Option(min=0.0, max=60_000.0, metavar="MS", help="How long a request waits for others to join it.")
    ] = 0.0,
    instances: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False,
                     help="Threads that run each model.  [default: one a core]"),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option("--inputs", "-i", envvar="GP_INPUTS", metavar="NAMES", show_default=False,
                     help="Of a model in a file: the inputs to serve, separated by commas."),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option("--outputs", "-o", envvar="GP_OUTPUTS", metavar="NAMES", show_default=False,
                     help="Of a model in a file: the outputs to serve."),
    ] = None,
    value_inputs: Annotated[
        Path | None,
        typer.Option(envvar="GP_VALUE_INPUTS", metavar="FILE", show_default=False,
                     help='Of a model in a file: types and shapes of inputs, {"data_0": [1, [1, 3, 227, 227]]}.'),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", envvar="GP_CACHE", help="Keep answers and give them again.")
    ] = False,
    cache_mb: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="With --cache: for the answers of each model.")
    ] = 256,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="What the log tells, on stderr.")
    ] = "info",
    otlp: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Send traces to this collector; needs the extra otel.", show_default=False),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Log in JSON, and print one JSON object on stdout when it is ready.")
    ] = False,
) -> None:  # fmt: skip
    """Serve models, and a lake with its page, over HTTP and gRPC.

    Speaks GraphPipe, the Open Inference Protocol of KServe and Triton, and a REST interface, which /docs describes.
    With --lake, browsers get a page to look at the lake, search it and, with --write, edit it. Without --model, the
    default model classifies and embeds pictures. Without an API key, only this machine
    may ask. SIGTERM and Ctrl-C finish what was accepted; a second one ends at once.

    The environment variables of the first GraphPipe servers count where an option is not given: GP_MODEL, GP_INPUTS,
    GP_OUTPUTS, GP_VALUE_INPUTS, GP_CACHE.

    \b
    Examples:
      imagelake serve
      imagelake serve --lake photos.lake --listen 127.0.0.1:8000
      IMAGELAKE_API_KEY=... imagelake serve --lake photos.lake --write
      imagelake serve --model squeezenet.onnx --value-inputs value_inputs.json --cache
      IMAGELAKE_API_KEY=... imagelake serve --listen 0.0.0.0:9000 --tls-cert cert.pem --tls-key key.pem
      curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg http://127.0.0.1:9000/api/classify
    """
    from imagelake.cli.page_opening import has_desktop
    from imagelake.cli.serving import Access, Bare, ServeOptions  # late: --help needs none of them
    from imagelake.cli.serving import serve as serve_all
    from imagelake.serve.plane import BatchOptions
    from imagelake.serve.server import ServerOptions
    from imagelake.serve.site import Limits

    if (tls_cert is None) != (tls_key is None):
        raise InputError("HTTPS needs both --tls-cert and --tls-key. Give both files, or none.")
    named = os.environ.get("GP_MODEL")
    access = Access(
        keys=_keys(api_key_file),
        no_key=no_key,
        allow_origin=tuple(allow_origin or ()),
        allow_load=allow_load,
        open_metrics=open_metrics,
        rate_limit=rate_limit,
        write=write,
        tls=(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None,
    )
    batch = BatchOptions(
        instances, max_batch, max_delay_ms / 1000, max_queue=max_queue, cache_bytes=cache_mb * _MB if cache else 0
    )
    limits = Limits(
        max_body=max_mb * _MB,
        max_concurrency=max_concurrency,
        timeout_s=timeout,
        body_timeout_s=timeout,
        body_budget=memory_mb * _MB,
    )
    serve_all(
        ServeOptions(
            lake=lake,
            models=tuple(model or ([named] if named else [])),
            models_folder=models,
            bare=Bare(inputs, outputs, value_inputs),
            batch=batch,
            listen=listen,
            grpc=grpc,
            access=access,
            limits=limits,
            server=ServerOptions(drain_s=drain, grace_s=2 * timeout + 5),
            log_level=log_level,
            json=json,
            otlp=otlp,
            open_page=lake is not None and (has_desktop() if open_page is None else open_page),
        )
    )


def _keys(file: Path | None) -> Keys | None:
    """From the file, else from the environment: never from the command line, which every user of a machine sees."""
    from imagelake.serve.api_keys import read_key_file, read_keys

    if file is not None:
        return read_key_file(file)
    given = os.environ.get("IMAGELAKE_API_KEY")
    return None if given is None else read_keys(given, "IMAGELAKE_API_KEY")
