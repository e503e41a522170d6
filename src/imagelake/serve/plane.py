"""Models by name and version, ready to be asked from any thread: knows no protocol and no event loop."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Self

from imagelake.errors import BusyError, ImagelakeError, ModelError, NotServedError, TimeLimitError
from imagelake.serve.batch_options import BatchOptions
from imagelake.serve.batcher import Batcher, Retired
from imagelake.serve.deadlines import Deadlines
from imagelake.serve.observer import Nobody, Observer
from imagelake.serve.request import ASKED, Request
from imagelake.serve.request_check import check_request, empty_answer
from imagelake.serve.served_model import Answer, ServedModel
from imagelake.serve.statistics import ModelStatistics, StatisticsKeeper
from imagelake.serve.tensor_info import TensorInfo, Tensors
from imagelake.serve.warm_up import warm

__all__ = ["BatchOptions", "ModelStatistics", "Observer", "Plane", "Request", "ServedModel", "TensorInfo", "Tensors"]

_CLOSE_S = 10.0
_LONGEST_S = 24 * 3600.0
_CLOSING = "this server is closing; ask another"


class Plane:
    """Models that are served: one process, one queue and some threads a model.

    A class, since it owns threads; `close` ends them. It can be used as a context manager.

    Args:
        observer: told of requests, runs and queues.
        options: of models that are loaded without options of their own.
    """

    def __init__(self, observer: Observer | None = None, options: BatchOptions | None = None) -> None:
        self._observer: Observer = observer or Nobody()
        self._options = options or BatchOptions()
        self._lock = threading.Lock()
        self._batchers: dict[str, dict[str, Batcher]] = {}  # the versions of a name, the newest last
        self._leaving: weakref.WeakSet[Batcher] = weakref.WeakSet()  # held by their threads, and by nothing else
        self._deadlines = Deadlines()
        self._default: str | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(
        self, model: ServedModel, options: BatchOptions | None = None, *, warm_up: bool = True, beside: bool = False
    ) -> None:
        """Serve a model under its name, once it has run; requests never meet a gap.

        What stood under the name takes no more requests, answers those that it has, and is closed.

        Args:
            model: opened; the plane closes it in the end.
            options: how its requests are put together; None for those of the plane.
            warm_up: whether it runs over its examples first.
            beside: whether other versions of the name stay; requests that name no version then go to this one.

        Raises:
            ModelError: it failed on its examples, or has no rows to put together; what stood under the name stays, and
            the model is closed.
            BusyError: the plane is closed.
        """
        settled = (options or self._options).settle(model)
        try:
            _check_axes(model, settled)
            if warm_up:
                warm(model, settled.max_batch or 1)
        except BaseException:
            model.close()
            raise
        keeper = StatisticsKeeper(model.name, model.version)
        batcher = Batcher(model, settled, self._observer, keeper)
        with self._lock:
            closed = self._closed
            if not closed:
                versions = self._batchers.setdefault(model.name, {})
                gone = [key for key in versions if key == model.version or not beside]
                leaving = [versions.pop(key) for key in gone]
                versions[model.version] = batcher
                self._default = self._default or model.name
        if closed:
            batcher.retire()
            raise BusyError(_CLOSING)
        self._retire(leaving, kept=model)

    def unload(self, name: str, version: str | None = None) -> None:
        """Serve a model no more, or one version of it; what waits for it is answered first, in its own time.

        Raises:
            NotServedError: there is no such model or version.
        """
        with self._lock:
            self._find(name, version)
            versions = self._batchers[name]
            leaving = [versions.pop(key) for key in ([version] if version else list(versions))]
            if not versions:
                del self._batchers[name]
                if self._default == name:
                    self._default = next(iter(self._batchers), None)
        self._retire(leaving)

    def names(self) -> tuple[str, ...]:
        """The models, in the order in which they came."""
        with self._lock:
            return tuple(self._batchers)

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a model, the one that answers by default last.

        Raises:
            NotServedError: there is no such model.
        """
        with self._lock:
            self._find(name, None)
            return tuple(self._batchers[name])

    def model(self, name: str, version: str | None = None) -> ServedModel:
        """The model behind a name.

        Raises:
            NotServedError: there is no such model or version.
        """
        with self._lock:
            return self._find(name, version).model

    def ready(self, name: str, version: str | None = None) -> bool:
        """Whether the model is there and takes requests."""
        with self._lock:
            try:
                return not self._closed and self._find(name, version) is not None
            except NotServedError:
                return False

    def has_room(self, name: str, version: str | None = None) -> bool:
        """Whether one more request for the model would not be refused now; False too where there is no such model."""
        with self._lock:
            try:
                return not self._closed and self._find(name, version).has_room
            except NotServedError:
                return False

    def submit(
        self,
        name: str,
        inputs: Tensors,
        outputs: Sequence[str] = (),
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        protocol: str = "python",
    ) -> Request:
        """Ask a model. What can be refused is refused at once; everything else is told by the future.

        Args:
            name: of the model.
            inputs: arrays by name, not to be changed until the future is done.
            outputs: the names that are wanted; none for all.
            version: of the model; None for the newest.
            timeout_s: the future fails with `TimeLimitError` after so many seconds; None waits for ever.
            protocol: by which the request came, for the observer.

        Returns:
            A future of arrays by name, to be read only. Cancelling it takes the request out of the queue.

        Raises:
            NotServedError: there is no such model or version.
            InputError: the request does not fit the model.
            BusyError: too many wait, or the plane is closed.
            TimeLimitError: no time is left.
        """
        start = time.monotonic()
        while True:
            with self._lock:
                batcher = self._find(name, version)
                closed = self._closed
            try:
                if closed:
                    raise BusyError(_CLOSING)
                request = _request(batcher, inputs, outputs, start, timeout_s, protocol)
                if request.rows == 0:
                    request.answer(empty_answer(batcher.model, request.outputs))
                    batcher.count(request)
                else:
                    batcher.put(request)
            except Retired:
                continue
            except ImagelakeError as error:
                batcher.refused(error, protocol, time.monotonic() - start)
                raise
            asked = ASKED.get()
            if asked is not None:
                asked.append(request)
            if request.deadline is not None and not request.done():
                self._deadlines.add(request, request.deadline)
            return request

    def infer(
        self,
        name: str,
        inputs: Tensors,
        outputs: Sequence[str] = (),
        *,
        version: str | None = None,
        timeout_s: float | None = None,
        protocol: str = "python",
    ) -> Answer:
        """Ask a model and wait: as `submit`, and what its future raises."""
        future = self.submit(name, inputs, outputs, version=version, timeout_s=timeout_s, protocol=protocol)
        try:
            return future.result()
        finally:
            future.cancel()  # where the waiting was interrupted
            del future  # an error would hold this frame and with it itself

    def statistics(self, name: str | None = None, version: str | None = None) -> list[ModelStatistics]:
        """What models have done since they were loaded, one entry a version; of one model where it is named.

        Raises:
            NotServedError: there is no such model or version.
        """
        with self._lock:
            if name is not None and version:
                batchers = [self._find(name, version)]
            elif name is not None:
                self._find(name, None)
                batchers = list(self._batchers[name].values())
            else:
                batchers = list(self._each())
        return [batcher.keeper.read(batcher.depth) for batcher in batchers]

    @property
    def default(self) -> str | None:
        """The model for whoever names none: the first that was loaded, or what was set; None without models."""
        return self._default

    @default.setter
    def default(self, name: str) -> None:
        with self._lock:
            self._find(name, None)
            self._default = name

    def drain(self, timeout_s: float) -> None:
        """Take no more requests and wait until those that were taken are answered.

        Raises:
            TimeLimitError: some are not after so many seconds.
        """
        until = time.monotonic() + min(timeout_s, _LONGEST_S)
        with self._lock:
            self._closed = True
            batchers = [*self._each(), *self._leaving]
        if not all(batcher.wait_until_idle(until) for batcher in batchers):
            raise TimeLimitError(f"requests are still under way after {timeout_s} s; allow more time, or close")

    def close(self) -> None:
        """End what waits with `BusyError`, finish what runs, close every model and end the threads.

        A model that runs on for more than ten seconds is left to itself; it does not keep the process alive.
        """
        with self._lock:
            self._closed = True
            batchers = [*self._each(), *self._leaving]
            self._batchers, self._default = {}, None
        for batcher in batchers:
            batcher.retire()
            batcher.fail_waiting(_CLOSING)
        until = time.monotonic() + _CLOSE_S
        for batcher in batchers:
            batcher.join(max(until - time.monotonic(), 0))
        self._deadlines.close()

    def _each(self) -> Iterator[Batcher]:
        for versions in self._batchers.values():
            yield from versions.values()

    def _find(self, name: str, version: str | None) -> Batcher:
        """Under the lock: what answers for a name."""
        versions = self._batchers.get(name)
        if not versions and self._closed and not self._batchers:
            raise BusyError(_CLOSING)
        if not versions:
            known = ", ".join(self._batchers) or "none"
            raise NotServedError(f"model {str(name)[:200]!r} is not served here; there are {known}")
        if not version:
            return next(reversed(versions.values()))
        if version not in versions:
            known = ", ".join(versions)
            raise NotServedError(f"version {str(version)[:200]!r} of {name} is not served here; there are {known}")
        return versions[version]

    def _retire(self, batchers: Sequence[Batcher], kept: ServedModel | None = None) -> None:
        with self._lock:
            self._leaving.update(batchers)
        for batcher in batchers:
            batcher.retire(close_model=batcher.model is not kept)


def _request(
    batcher: Batcher, inputs: Tensors, outputs: Sequence[str], start: float, timeout_s: float | None, protocol: str
) -> Request:
    deadline = None
    if timeout_s is not None and timeout_s != math.inf:
        if not timeout_s > 0:
            raise TimeLimitError(f"no answer comes within {timeout_s} s; give a time limit above 0")
        deadline = start + timeout_s
    return Request(check_request(batcher.model, inputs, outputs), deadline, protocol, came=start)


def _check_axes(model: ServedModel, options: BatchOptions) -> None:
    fixed = [info.name for info in (*model.inputs, *model.outputs) if info.shape[:1] != (-1,)]
    if options.max_batch and fixed:
        raise ModelError(
            f"{', '.join(fixed)} of {model.name} has no axis of rows (-1 first); serve it with max_batch 0"
        )
