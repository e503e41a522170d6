"""The service after this one: where it is stands in this server's own configuration, and never in a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagelake.errors import BusyError, ImagelakeError, InputError, NotServedError, ServingError
from imagelake.serve.graphpipe_client import AskOptions, Client
from imagelake.serve.plane import TensorInfo, Tensors
from imagelake.serve.served_model import Answer

_PAUSE_S = 0.2
_CALLED = "the next service"


@dataclass(frozen=True)
class NextHop:
    """A service that was found, and how it is asked.

    Attributes:
        url: where it is.
        outputs: what it gives.
        client: asks it, from any number of threads.
        options: timeouts, limits, key.
    """

    url: str
    outputs: tuple[TensorInfo, ...]
    client: Client
    options: AskOptions

    def ask(self, tensors: Tensors, outputs: Sequence[str]) -> Answer:
        """Its outputs for one tensor.

        Raises:
            ImagelakeError: it refused, was too late, or could not be reached (`BusyError`). Where it is, is not told.
        """
        try:
            found = self.client.execute(self.url, list(tensors.values()), (), outputs, options=self.options)
        except ImagelakeError as error:
            kind = BusyError if type(error) in (ServingError, NotServedError) else type(error)
            raise kind(str(error).replace(self.url.rstrip("/"), _CALLED)) from error
        if len(found) != len(outputs):
            raise BusyError(f"{_CALLED} gave {len(found)} outputs where {len(outputs)} were asked for")
        return dict(zip(outputs, found, strict=True))


def find_next_hop(url: str, options: AskOptions, wait_s: float, ended: Callable[[], bool] = lambda: False) -> NextHop:
    """Wait until a service answers what it gives.

    Args:
        url: where it is.
        options: how it is asked.
        wait_s: for how long; services of a chain may be started in any order.
        ended: whether to give up.

    Raises:
        InputError: it did not answer, or what it said cannot be used.
    """
    client = Client()
    until = time.monotonic() + wait_s
    while True:
        try:
            found = client.metadata(url, options=options)
            break
        except ServingError as error:
            if time.monotonic() >= until or ended():
                client.close()
                raise InputError(f"The next service did not answer within {wait_s:g} s: {error}") from error
            time.sleep(_PAUSE_S)
    outputs = tuple(info for info in found.outputs if info.name and info.dtype)
    if not outputs:
        client.close()
        raise InputError(f"{url} does not say what it gives. Give --next the address of a GraphPipe server.")
    return NextHop(url, outputs, client, options)
