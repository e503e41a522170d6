"""Serve a Python function over GraphPipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray
from starlette.routing import Router

from imagelake.errors import InputError
from imagelake.serve import graphpipe_http, operations
from imagelake.serve.allocator import keep_freed_memory
from imagelake.serve.api_keys import Keys, only_key
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.function_model import serve_function
from imagelake.serve.guard import Guard, GuardOptions
from imagelake.serve.listening import address_of, is_loopback, listen, read_address
from imagelake.serve.metrics import Metrics
from imagelake.serve.plane import Plane
from imagelake.serve.served import Served
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Limits, Site
from imagelake.serve.tensor_info import TensorInfo

Named = str | TensorInfo


def run_function(
    function: Callable[..., Any],
    address: str,
    inputs: Sequence[Named] | None,
    outputs: Sequence[Named] | None,
    *,
    name: str | None = None,
    threads: int = 1,
    max_batch: int = 0,
    api_key: str | None = None,
    limits: Limits | None = None,
    on_start: Callable[[HttpServer, str], None] | None = None,
) -> None:
    """Serve a function until SIGTERM, SIGINT or `HttpServer.stop`.

    Args:
        function: as `imagelake.graphpipe.serve` has it, and so are the arguments that are not here.
        address: `HOST:PORT`.
        inputs: names or descriptions; None: the function's parameters.
        outputs: the same; None: one.
        name: of the model; None for the function's.
        threads: how many calls may run at once.
        max_batch: rows of one call; 0: one call a request.
        api_key: what callers must show.
        limits: of requests.
        on_start: told of the server and its address when requests are taken.

    Raises:
        InputError: the address cannot be had, or the inputs are not known.
    """
    host, port = read_address(address)
    keys: Keys | None = None
    if api_key is not None:
        keys = only_key(api_key, "api_key")
    elif not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, and there is no API key. Give api_key, or listen on 127.0.0.1."
        )
    model = function_model(function, inputs, outputs, name=name, max_batch=max_batch)
    metrics = Metrics()
    keep_freed_memory()
    with Plane(metrics) as plane, listen(host, port) as listening:
        plane.load(model, BatchOptions(instances=threads))
        site = Site(plane, limits or Limits(), metrics=metrics)
        routes = [*operations.routes(site), *graphpipe_http.routes(site)]
        options = GuardOptions(keys=keys, check_host=keys is None)
        app = Guard(Router(routes, redirect_slashes=False), site, options)
        server = HttpServer(app, listening, site.lifecycle, ServerOptions(drain_s=0.0))
        where = address_of(listening)
        server.run(lambda _: on_start(server, where) if on_start else None)


def function_model(
    function: Callable[..., Any],
    inputs: Sequence[Named] | None = None,
    outputs: Sequence[Named] | None = None,
    *,
    name: str | None = None,
    max_batch: int = 0,
) -> Served:
    """A function as a model whose inputs and outputs may be of any type and shape: those that are only named.

    Raises:
        InputError: the inputs are not known.
    """
    free = (-1,) if max_batch else ()  # rows, and any sides behind them
    takes = parameters(function, free) if inputs is None else _infos(inputs, free)
    gives = [TensorInfo("output0", "", free)] if outputs is None else _infos(outputs, free)
    called = name or getattr(function, "__name__", "function").strip("<>")

    def given(*arrays: NDArray[Any] | None) -> Any:
        there = list(arrays)
        while there and there[-1] is None:  # what was left out at the end has a default
            there.pop()
        return function(*there)

    told = (function.__doc__ or "").strip().partition("\n")[0]
    return serve_function(given, called, takes, gives, description=told, max_batch=max_batch)


def parameters(function: Callable[..., Any], shape: tuple[int, ...] = ()) -> list[TensorInfo]:
    """The parameters of a function as inputs of any type and shape; those with a default may be left out.

    Args:
        function: called with them by position.
        shape: that is told of them.

    Raises:
        InputError: it does not say which it has.
    """
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        found = []
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not found or any(each.kind not in by_position for each in found):
        raise InputError(f"{function!r} does not say which inputs it has. Give inputs, such as ['x', 'y'].")
    return [TensorInfo(each.name, "", shape, optional=each.default is not inspect.Parameter.empty) for each in found]


def _infos(named: Sequence[Named], shape: tuple[int, ...]) -> list[TensorInfo]:
    return [TensorInfo(each, "", shape) if isinstance(each, str) else each for each in named]
