"""The service after this one: where it is stands in this server's own configuration, and never in a request."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagelake.errors import BusyError, ImagelakeError, InputError, ServingError, TimeLimitError, TooLargeError
from imagelake.serve.graphpipe_client import AskOptions, Client
from imagelake.serve.plane import TensorInfo, Tensors
from imagelake.serve.served_model import Answer

_PAUSE_S = 0.2
_LOG = logging.getLogger("imagelake.serve")
_ANSWERED = re.compile(r" answered (?P<status>\d{3}): (?P<told>.*)", re.DOTALL)
_HOPELESS = {"401", "403"}  # waiting changes nothing
_TOLD: dict[type[ImagelakeError], str] = {
    TimeLimitError: "The next service did not answer in time. Send it again later, or less of it.",
    TooLargeError: "The next service takes or gives less than this at once. Send less of it.",
    BusyError: "The next service cannot answer at present. Send it again later.",
}


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

    def ask(self, tensors: Tensors, outputs: Sequence[str], timeout_s: float | None = None) -> Answer:
        """Its outputs for one tensor.

        Args:
            tensors: the one.
            outputs: which of its outputs.
            timeout_s: how long whoever asked still waits; None for as long as the options say.

        Raises:
            ImagelakeError: it refused, was too late, or could not be reached (`BusyError`). Where it is, is not told.
        """
        left_s = self.options.timeout_s if timeout_s is None else min(timeout_s, self.options.timeout_s)
        if left_s <= 0:
            raise TimeLimitError("There was no time left to ask the next service. Ask for less at once.")
        options = dataclasses.replace(self.options, timeout_s=left_s)
        try:
            found = self.client.execute(self.url, list(tensors.values()), (), outputs, options=options)
        except ImagelakeError as error:
            raise _for_callers(error) from error
        if len(found) != len(outputs):
            _LOG.warning("%s gave %d outputs where %d were asked for", self.url, len(found), len(outputs))
            raise BusyError(_TOLD[BusyError])
        return dict(zip(outputs, found, strict=True))


def _for_callers(error: ImagelakeError) -> ImagelakeError:
    """The error without the address: what the next service said of the request, or else only that it cannot answer."""
    kind = type(error)
    said = _ANSWERED.search(str(error))
    if said and kind in {InputError, *_TOLD}:
        return kind(said["told"])
    _LOG.warning("the next service: %s", error)  # for who runs this one
    kind = kind if kind in _TOLD else BusyError
    return kind(_TOLD[kind])


def find_next_hop(url: str, options: AskOptions, wait_s: float, ended: Callable[[], bool] = lambda: False) -> NextHop:
    """Wait until a service answers what it gives.

    Args:
        url: where it is.
        options: how it is asked.
        wait_s: for how long; services of a chain may be started in any order.
        ended: whether to give up.

    Raises:
        InputError: it did not answer or takes no requests of ours, or what it said cannot be used.
    """
    client = Client()
    until = time.monotonic() + wait_s
    while True:
        try:
            found = client.metadata(url, options=options)
            break
        except ServingError as error:
            said = _ANSWERED.search(str(error))
            if said and said["status"] in _HOPELESS:
                client.close()
                raise InputError(
                    f"The next service refuses requests: {error} Its key is $IMAGELAKE_NEXT_API_KEY."
                ) from error
            if time.monotonic() >= until or ended():
                client.close()
                raise InputError(f"The next service did not answer within {wait_s:g} s: {error}") from error
            time.sleep(_PAUSE_S)
    outputs = tuple(info for info in found.outputs if info.name and info.dtype)
    if not outputs:
        client.close()
        raise InputError(f"{url} does not say what it gives. Give --next the address of a GraphPipe server.")
    return NextHop(url, outputs, client, options)
