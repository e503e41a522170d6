"""What `imagelake serve` does once its options are read: opens the models, serves them, and ends well."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imagelake.cli.models_add import registry_of
from imagelake.cli.output import write_json, write_note
from imagelake.cli.page_opening import tell_page
from imagelake.cli.serve_example import example, tensors_of
from imagelake.cli.served_lake import NO_VECTORS, open_gallery, page_routes
from imagelake.errors import InputError
from imagelake.serve.api_keys import Keys
from imagelake.serve.app import build_app
from imagelake.serve.guard import GuardOptions
from imagelake.serve.listening import address_of, is_loopback, listen, read_address
from imagelake.serve.metrics import Metrics
from imagelake.serve.origins import read_origins
from imagelake.serve.plane import BatchOptions, Plane, ServedModel
from imagelake.serve.rate_limit import RateLimit
from imagelake.serve.request_log import LineWriter, LogHandler, RequestLog
from imagelake.serve.server import HttpServer, ServerOptions, tls_context
from imagelake.serve.sessions import Sessions
from imagelake.serve.site import Limits, Site
from imagelake.serve.tracing import Tracing

_LOGGERS = {
    "imagelake": logging.INFO,
    **dict.fromkeys(("uvicorn.error", "asyncio", "opentelemetry", "py.warnings"), logging.WARNING),
}
_SUFFIXES = {".onnx", ".pb", ".pbtxt", ".tflite", ".caffemodel", ".pt", ".pt2", ".pth"}
_VALUE_INPUTS = 'Give a file such as {"data_0": [1, [1, 3, 227, 227]]}: type and shape by name.'
_LAST_ANSWERS_S = 5.0  # for what was dropped by its caller and still computes


@dataclass(frozen=True)
class Bare:
    """How files of models are served that have no manifest, as the first GraphPipe servers had it.

    Attributes:
        inputs: the names of the inputs to serve, separated by commas; None: all.
        outputs: the same for outputs.
        value_inputs: a JSON file of types and shapes of inputs.
    """

    inputs: str | None = None
    outputs: str | None = None
    value_inputs: Path | None = None


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        keys: one of which a request must show; None: nobody is asked.
        no_key: that this was meant, also where other machines can ask.
        allow_origin: pages of other sites that may.
        allow_load: whether callers may load and unload models.
        open_metrics: whether /metrics needs no key.
        rate_limit: requests a second of each key; None: any number.
        write: whether callers may change the lake, on the page.
        tls: certificate and key; None: plain HTTP.
    """

    keys: Keys | None = None
    no_key: bool = False
    allow_origin: tuple[str, ...] = ()
    allow_load: bool = False
    open_metrics: bool = False
    rate_limit: float | None = None
    write: bool = False
    tls: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class ServeOptions:
    """What is served, where, to whom and how."""

    lake: str | None = None
    models: tuple[str, ...] = ()
    models_folder: Path | None = None
    bare: Bare = field(default_factory=Bare)
    batch: BatchOptions = field(default_factory=BatchOptions)
    listen: str = "127.0.0.1:9000"
    grpc: str | None = None
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    server: ServerOptions = field(default_factory=ServerOptions)
    log_level: str = "info"
    json: bool = False
    otlp: str | None = None
    open_page: bool = False


def serve(options: ServeOptions) -> None:
    """Serve until a signal; what was accepted is answered.

    Raises:
        InputError: the options do not fit together, or an address cannot be had.
        ModelError: a model cannot be served.
    """
    host, port = _checked(options)
    _allow_many_files()
    server_options = _with_tls(options)
    tracing = Tracing(options.otlp) if options.otlp else None
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        log = stack.enter_context(_logging(options))
        if tracing:
            stack.callback(tracing.close)
        metrics = Metrics()
        plane = stack.enter_context(Plane(metrics, options.batch))
        gallery = stack.enter_context(open_gallery(options.lake, options.limits.max_pixels)) if options.lake else None
        site = Site(
            plane, options.limits, lake=gallery.view if gallery else None, metrics=metrics,
            why_no_lake=NO_VECTORS if gallery else Site.why_no_lake,
            open_model=(lambda name: _open_named(name, options)) if options.access.allow_load else None,
            loadable=(lambda: _loadable(options)) if options.access.allow_load else tuple,
        )  # fmt: skip
        guard = _guard_options(options, host, log, tracing)
        page = page_routes(gallery, site, guard.sessions) if gallery else []
        beside = [] if options.grpc is None else [_grpc(site, options, guard)]
        _Process(options, site, listening, guard, server_options, beside, page).run()


class _Process:
    """Takes requests while the models are opened, so that it can be asked whether it is ready."""

    def __init__(
        self,
        options: ServeOptions,
        site: Site,
        listening: Any,
        guard: GuardOptions,
        server_options: ServerOptions,
        beside: Sequence[AbstractAsyncContextManager[str]],
        page: Sequence[Any],
    ) -> None:
        self._options = options
        self._site = site
        self._address = address_of(listening, "https" if server_options.tls else "http")
        self._server = HttpServer(build_app(site, guard, page), listening, site.lifecycle, server_options, beside)
        self._loading: threading.Thread | None = None
        self._failed: BaseException | None = None

    def run(self) -> None:
        """Serve to the end.

        Raises:
            ModelError: a model cannot be served.
        """
        self._site.lifecycle.starting = True
        self._server.run(self._start)
        if self._loading is not None:
            self._loading.join()
        gc.unfreeze()
        if self._failed is not None:
            raise self._failed
        with contextlib.suppress(TimeoutError):
            self._site.plane.drain(_LAST_ANSWERS_S)

    def _start(self, given: list[Any]) -> None:
        self._loading = threading.Thread(target=self._load, args=[given], name="imagelake-load")
        self._loading.start()

    def _load(self, given: list[Any]) -> None:
        try:
            for model in _opened(self._options, self._site):
                if self._site.lifecycle.draining:
                    model.close()
                    return
                self._site.plane.load(model)
            gc.collect()
            gc.freeze()  # what is there now stays: the collector need not look at it again
            self._site.lifecycle.starting = False
            self._say(given)
        except BaseException as error:  # noqa: BLE001  (it is raised again where the server ends)
            self._failed = error
            self._server.stop(at_once=True)

    def _say(self, given: list[Any]) -> None:
        plane, options = self._site.plane, self._options
        names = plane.names()
        if options.json:
            told = {"listening": self._address, "models": names, "default": plane.default, "lake": options.lake}
            write_json(told | ({"grpc": given[0]} if given else {}))
            return
        write_note(f"Listening on {self._address}" + (f", gRPC on {given[0]}" if given else "") + ". Ctrl-C ends it.")
        write_note(f"Serving {', '.join(names)}" + (f" and the lake {options.lake}" if options.lake else "") + ".")
        if options.lake:
            tell_page(self._address, open_it=options.open_page, keyed=options.access.keys is not None)
        models = [plane.model(name) for name in sorted(names, key=lambda name: name != plane.default)]
        for model in models:
            if model.task == "tensors":
                write_note(f"  {model.name}: {tensors_of(model)}")
        write_note(f"Try: {example(models, self._address, keyed=options.access.keys is not None)}")


def _checked(options: ServeOptions) -> tuple[str, int]:
    """The address to listen on, once it is one that may be listened on."""
    access = options.access
    for text in filter(None, (options.listen, options.grpc)):
        host, _ = read_address(text)
        if access.keys is None and not access.no_key and not is_loopback(host):
            raise InputError(
                f"{host} can be reached from other machines, and there is no API key. Set IMAGELAKE_API_KEY or give "
                "--api-key-file; or --no-key, to let everybody ask."
            )
    if access.write and access.keys is None:
        raise InputError(
            "--write lets people change the lake, and there is no API key. Set IMAGELAKE_API_KEY or give "
            "--api-key-file; the page asks for the key."
        )
    if access.write and options.lake is None:
        raise InputError("--write lets people change a lake, and none is served. Give one: --lake PLACE.")
    if options.limits.body_budget < 2 * options.limits.max_body:
        raise InputError(
            f"--memory-mb {options.limits.body_budget >> 20} has no room for two requests of --max-mb "
            f"{options.limits.max_body >> 20}; give at least {2 * options.limits.max_body >> 20}."
        )
    return read_address(options.listen)


def _allow_many_files() -> None:
    """Each connection is an open file, of which a shell allows few."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _with_tls(options: ServeOptions) -> ServerOptions:
    tls = options.access.tls
    return options.server if tls is None else replace(options.server, tls=tls_context(*tls))


def _guard_options(options: ServeOptions, host: str, log: RequestLog, tracing: Tracing | None) -> GuardOptions:
    access = options.access
    limit = access.rate_limit
    return GuardOptions(
        keys=access.keys,
        open_metrics=access.open_metrics,
        check_host=access.keys is None and is_loopback(host),
        origins=read_origins(list(access.allow_origin)),
        rate_limit=None if limit is None else RateLimit(limit, burst=limit),
        page=options.lake is not None,
        sessions=Sessions(access.keys, write=access.write) if access.keys is not None else None,
        log=log,
        tracing=tracing,
    )


def _grpc(site: Site, options: ServeOptions, guard: GuardOptions) -> AbstractAsyncContextManager[str]:
    from imagelake.serve.oip_grpc import serving_grpc  # late: of the extra `grpc`

    host, port = read_address(options.grpc or "")
    return serving_grpc(site, host, port, guard, grace_s=options.server.grace_s, tls=options.access.tls)


@contextlib.contextmanager
def _logging(options: ServeOptions) -> Iterator[RequestLog]:
    """The log of the process, on stderr."""
    log = RequestLog(LineWriter(sys.stderr), options.log_level, as_json=options.json)
    handler = LogHandler(log)
    for name, least in _LOGGERS.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(max(log.level, least))
        logger.propagate = False
    try:
        yield log
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        log.close()


def _opened(options: ServeOptions, site: Site) -> Iterator[ServedModel]:
    """The models, each when it is asked for; the first is the one for callers who name none."""
    from imagelake.serve.served_models import CLASSIFIER, EMBEDDER

    for name in options.models or (CLASSIFIER, EMBEDDER):
        model = _open(name, options)
        if model.name in site.plane.names():
            raise InputError(f"Two models are called {model.name!r}. Rename one of the files, or leave one away.")
        yield model
    if site.lake is not None:
        from imagelake.serve.search_model import SearchModel

        yield SearchModel(site.lake)


def _open(name: str, options: ServeOptions) -> ServedModel:
    """A model by its name; or by its file or folder, and then as its tensors where names of them are given."""
    from imagelake.serve.served_models import open_bare

    bare = options.bare
    by_path = "/" in name or Path(name).exists() or Path(name).suffix in _SUFFIXES
    if by_path and not Path(name).exists():
        raise InputError(f"There is no model at {name}. Give a file, a folder of a registered model, or its name.")
    if not by_path and bare == Bare():
        return _open_named(name, options)
    return open_bare(
        name, _names(bare.inputs), _names(bare.outputs), _read_value_inputs(bare.value_inputs),
        registry=registry_of(options.models_folder), max_pixels=options.limits.max_pixels,
    )  # fmt: skip


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _read_value_inputs(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise InputError(f"The inputs cannot be read from {path}: {reason}. {_VALUE_INPUTS}") from None
    if not isinstance(read, dict):
        raise InputError(f"{path} holds no JSON object. {_VALUE_INPUTS}")
    return read


def _loadable(options: ServeOptions) -> tuple[str, ...]:
    from imagelake.serve.served_models import BUILT_IN

    return (*BUILT_IN, *registry_of(options.models_folder).names())


def _open_named(name: str, options: ServeOptions) -> ServedModel:
    from imagelake.serve.served_models import open_named

    registry = registry_of(options.models_folder)
    return open_named(name, registry=registry, max_pixels=options.limits.max_pixels, on_progress=write_note)
