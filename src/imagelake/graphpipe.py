"""GraphPipe from Python: ask any server that speaks it, and serve any function.

    import numpy as np
    from imagelake import graphpipe

    graphpipe.serve(lambda x: x * 2)                                      # in one process
    graphpipe.remote("http://127.0.0.1:9000", np.ones((2, 3)))            # in another

Connections are kept for the next request to the same server. Any number of threads may ask.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from imagelake.serve.graphpipe import Metadata
    from imagelake.serve.graphpipe_client import AskOptions, Client
    from imagelake.serve.graphpipe_function import Named

__all__ = ["execute", "execute_multi", "metadata", "remote", "serve"]


def remote(url: str, array: ArrayLike, *, options: AskOptions | None = None) -> NDArray[Any] | list[NDArray[Any]]:
    """Run a model of one input on a server; see `execute`."""
    return execute(url, array, options=options)


def execute(
    url: str,
    input: ArrayLike,  # noqa: A002 - it is called so in the first client
    input_name: str | None = None,
    output_name: str | None = None,
    *,
    options: AskOptions | None = None,
) -> NDArray[Any] | list[NDArray[Any]]:
    """Run a model on a server with one array.

    Args:
        url: of the server, or of one of its models: `http://host:9000/graphpipe/NAME`.
        input: an array, or what NumPy makes one of; text and bytes are strings.
        input_name: of the input; None for the first.
        output_name: of the output to give back; None for all.
        options: timeouts, limits, key: `imagelake.serve.graphpipe_client.AskOptions`.

    Returns:
        The output where there is one, else a list of them. They cannot be written. Strings are bytes, in an array of
        dtype object.

    Raises:
        InputError: the request cannot be sent, or the server refused it.
        ServingError: there is no such model (`NotServedError`), no room (`BusyError`), no answer in time
            (`TimeLimitError`), the request or the answer is too large (`TooLargeError`), or the server failed.
    """
    names = [] if input_name is None else [input_name]
    wanted = [] if output_name is None else [output_name]
    found = execute_multi(url, [input], names, wanted, options=options)
    return found[0] if len(found) == 1 else found


def execute_multi(
    url: str,
    inputs: Sequence[ArrayLike],
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    config: str | bytes | None = None,
    *,
    options: AskOptions | None = None,
) -> list[NDArray[Any]]:
    """Run a model on a server with any number of arrays.

    Args:
        url: as `execute` has it.
        inputs: the arrays.
        input_names: one for each; None: they count by position.
        output_names: what to give back, in that order; None for all of the model's outputs.
        config: for the model, as it likes.
        options: as `execute` has them.

    Returns:
        The outputs. Raises what `execute` does.
    """
    client = _client(os.getpid())
    return client.execute(url, inputs, input_names or (), output_names or (), config=config or b"", options=options)


def metadata(url: str, *, options: AskOptions | None = None) -> Metadata:
    """What a server says of a model: name, version, inputs and outputs; raises what `execute` does."""
    return _client(os.getpid()).metadata(url, options=options)


def serve(
    function: Callable[..., Any],
    listen: str = "127.0.0.1:9000",
    *,
    inputs: Sequence[Named] | None = None,
    outputs: Sequence[Named] | None = None,
    name: str | None = None,
    threads: int = 1,
    max_batch: int = 0,
    api_key: str | None = None,
) -> None:
    """Serve a function until SIGTERM or SIGINT, at `/` and at `/graphpipe/NAME`.

    Args:
        function: called with the arrays of the inputs in their order; strings are bytes in arrays of dtype object.
            What comes cannot be written. It returns an array, or as many as there are outputs, or arrays by name. An
            `ImagelakeError` that it raises is told to whoever asked; anything else is logged, and they get status 500.
        listen: `HOST:PORT`; port 0 is any that is free.
        inputs: their names, for any type and shape, or `imagelake.serve.tensor_info.TensorInfo`, which is then checked;
            None: the function's parameters, where those with a default may be left out.
        outputs: the same for what it returns; None: one.
        name: of the model; None for the function's.
        threads: how many calls may run at once.
        max_batch: 0: one call a request. Above 0: rows of several requests are put into one call, up to so many.
        api_key: what callers must show (`Authorization: Bearer`); needed where other machines can reach the address.

    Raises:
        InputError: the address cannot be had, or it is not known which inputs there are.
    """
    from imagelake.serve.graphpipe_function import run_function

    run_function(
        function, listen, inputs, outputs, name=name, threads=threads, max_batch=max_batch, api_key=api_key,
        on_start=lambda _, where: print(f"Listening on {where}", flush=True),  # noqa: T201
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def _client(_process: int) -> Client:
    """The connections of this process; a fork has its own."""
    from imagelake.serve.graphpipe_client import Client

    return Client()
