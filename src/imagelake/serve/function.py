"""The classifier as a function for an Fn platform: the address of a picture in, its class and probability out."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imagelake.errors import InputError, TimeLimitError
from imagelake.serve.downloads import DownloadOptions, download
from imagelake.serve.fn_calls import FnCall, FnFunction, fn_app
from imagelake.serve.fn_listener import fn_listener
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Lifecycle, Limits

if TYPE_CHECKING:
    from imagelake.serve.served_model import ServedModel

_BODY = 1 << 20  # an address needs no more
_IDLE_S = 24 * 3600.0  # the platform keeps its connection for as long as it likes
_GRACE_S = 30.0
_EXAMPLE = '{"name": "https://example.com/a.jpg"}'


@dataclass(frozen=True)
class FunctionOptions:
    """What the function does.

    Attributes:
        model: a classifier, as `open_named` knows it; None for the built-in one.
        download: what a call may make this machine fetch.
        threads: that one call uses.
    """

    model: str | None = None
    download: DownloadOptions = field(default_factory=lambda: DownloadOptions(max_count=1, retries=1))
    threads: int = 1


def run_function(listener: str, options: FunctionOptions, on_start: Callable[[], None] = lambda: None) -> None:
    """Answer the calls of a platform until SIGTERM or SIGINT.

    It listens at once, since the platform waits for 5 seconds only; the model is opened meanwhile, and a call that
    comes before waits for it.

    Args:
        listener: of `FN_LISTENER`.
        options: what is done.
        on_start: called when it listens.

    Raises:
        InputError: it cannot listen there.
    """
    opening: Future[ServedModel] = Future()
    with fn_listener(listener) as (listening, show):

        def begin(_: object) -> None:
            show()
            threading.Thread(target=_open, args=(opening, options), daemon=True).start()
            on_start()

        app = fn_app(classify_function(opening, options), Limits(max_body=_BODY))
        settings = ServerOptions(idle_s=_IDLE_S, drain_s=0.0, grace_s=_GRACE_S)
        HttpServer(app, listening, Lifecycle(), settings).run(begin)


def open_function_model(options: FunctionOptions) -> ServedModel:
    """The classifier of the function.

    Raises:
        ModelError: it cannot be opened.
        InputError: it is no classifier.
    """
    from imagelake.serve.served_models import CLASSIFIER, open_named  # late: it takes longer than listening may

    model = open_named(options.model or CLASSIFIER, threads=options.threads)
    if model.task != "classifier":
        model.close()
        raise InputError(f"{model.name} is no classifier but a model for {model.task}. Give a classifier.")
    return model


def _open(opening: Future[ServedModel], options: FunctionOptions) -> None:
    try:
        model = open_function_model(options)
        for example in getattr(model, "examples", list)():
            model.run(example, [info.name for info in model.outputs])
        opening.set_result(model)
    except BaseException as error:  # noqa: BLE001  (each call tells it)
        opening.set_exception(error)


def classify_function(opening: Future[ServedModel], options: FunctionOptions) -> FnFunction:
    """From a call with `{"name": ADDRESS}` to `{"id", "message": "result_class=LABEL, probability=P"}`.

    Args:
        opening: the model, once it is there.
        options: what may be fetched.
    """

    def answer(call: FnCall, body: bytes) -> Mapping[str, Any]:
        until = time.monotonic() + call.left_s
        address = _address(body)
        limits = dataclasses.replace(options.download, timeout_s=min(options.download.timeout_s, call.left_s))
        picture = download([address], limits)
        model = _opened(opening, until - time.monotonic())
        array = np.empty(1, dtype=object)
        array[0] = picture[0]
        found = model.run({model.inputs[0].name: array}, ["probabilities", "label"])
        label, probability = found["label"][0].decode(), float(found["probabilities"].max())
        return {"id": call.id, "message": f"result_class={label}, probability={probability:.6f}"}

    return answer


def _opened(opening: Future[ServedModel], left_s: float) -> ServedModel:
    try:
        return opening.result(timeout=max(0.0, left_s))
    except TimeoutError:
        if opening.done():
            raise RuntimeError("the model could not be opened") from opening.exception()
        raise TimeLimitError("The model was not open before the deadline of the call. Call again.") from None
    except Exception as error:
        raise RuntimeError("the model could not be opened") from error  # a defect of the function, not of its call


def _address(body: bytes) -> str:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError(f"The call has no JSON. Send {_EXAMPLE}.") from None
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"The call names no picture. Send {_EXAMPLE}.")
    return name.strip()
