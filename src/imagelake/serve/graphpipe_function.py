"""Serve a Python function over GraphPipe."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.routing import Router

from imagelake.errors import InputError, ModelError
from imagelake.serve import graphpipe_http, operations
from imagelake.serve.allocator import keep_freed_memory
from imagelake.serve.api_keys import Keys, read_keys
from imagelake.serve.batch_options import BatchOptions
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
        keys = read_keys(api_key, "api_key")
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
    takes = parameters(function) if inputs is None else _infos(inputs)
    gives = [TensorInfo("output0", "", ())] if outputs is None else _infos(outputs)
    called = name or getattr(function, "__name__", "function").strip("<>")

    def compute(given: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        arrays = [given.get(info.name) for info in takes]
        while arrays and arrays[-1] is None:  # what was left out at the end has a default
            arrays.pop()
        found = _by_name(called, function(*arrays), gives)
        return {each: found[each] for each in wanted if each in found}

    return Served(
        called,
        tuple(takes),
        tuple(gives),
        compute,
        uuid.uuid4().hex,  # nobody knows what it computes: no answer is kept for another one
        description=(function.__doc__ or "").strip().partition("\n")[0],
        task="function",
        max_batch=max_batch,
    )


def parameters(function: Callable[..., Any]) -> list[TensorInfo]:
    """The parameters of a function as inputs of any type and shape; those with a default may be left out.

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
    return [TensorInfo(each.name, "", (), optional=each.default is not inspect.Parameter.empty) for each in found]


def _infos(named: Sequence[Named]) -> list[TensorInfo]:
    return [TensorInfo(each, "", ()) if isinstance(each, str) else each for each in named]


def _by_name(name: str, returned: Any, outputs: Sequence[TensorInfo]) -> dict[str, NDArray[Any]]:
    """What a function returned, as arrays by the names of its outputs."""
    if isinstance(returned, Mapping):
        found = dict(returned)
    else:
        several = returned if isinstance(returned, tuple | list) and len(outputs) > 1 else (returned,)
        if len(several) != len(outputs):
            raise ModelError(f"{name} returned {len(several)} arrays for {len(outputs)} outputs; it is served wrong")
        found = {info.name: each for info, each in zip(outputs, several, strict=True)}
    return {info.name: _output(found[info.name], info) for info in outputs if info.name in found}


def _output(value: Any, info: TensorInfo) -> NDArray[Any]:
    """An array of the type of the output, or of its own; strings become bytes."""
    array: NDArray[Any] = np.asarray(value, info.dtype or None)
    if array.dtype.kind not in "OSU":
        return array
    made = np.empty(array.shape, object)
    for place, each in np.ndenumerate(array):
        if not isinstance(each, str | bytes):
            raise ModelError(f"the output {info.name} holds a {type(each).__name__} where bytes or str are expected")
        made[place] = each.encode() if isinstance(each, str) else bytes(each)
    return made
