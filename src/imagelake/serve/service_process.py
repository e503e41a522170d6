"""A process that serves over GraphPipe what a function loads: health, metrics, keys, and an end that drops nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from starlette.routing import Router

from imagelake.errors import InputError
from imagelake.serve import graphpipe_http, operations
from imagelake.serve.api_keys import Keys
from imagelake.serve.guard import Guard, GuardOptions
from imagelake.serve.listening import address_of, is_loopback, listen, read_address
from imagelake.serve.metrics import Metrics
from imagelake.serve.plane import Plane
from imagelake.serve.request_log import LineWriter, LogHandler, RequestLog
from imagelake.serve.server import HttpServer, ServerOptions
from imagelake.serve.site import Limits, Site

_LAST_ANSWERS_S = 5.0


@dataclass(frozen=True)
class ProcessOptions:
    """Where a process listens, and who may ask.

    Attributes:
        listen: `HOST:PORT`; port 0 is any that is free.
        keys: one of which a request must show; None: nobody is asked.
        no_key: that this was meant, also where other machines can ask.
        limits: of requests.
        log_level: the least that is told on stderr.
        json: whether the log is JSON.
    """

    listen: str
    keys: Keys | None = None
    no_key: bool = False
    limits: Limits = field(default_factory=Limits)
    log_level: str = "warning"
    json: bool = False


def run_process(load: Callable[[Plane], None], options: ProcessOptions, on_start: Callable[[str, Plane], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        load: loads the models, before the first request is taken.
        options: of the process.
        on_start: told where it listens, once requests are taken.

    Raises:
        InputError: the address cannot be had, or others can reach it and there is no key.
    """
    host, port = read_address(options.listen)
    if options.keys is None and not options.no_key and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, and there is no API key. Set IMAGELAKE_API_KEY or give "
            "--api-key-file; or --no-key, to let everybody ask."
        )
    metrics = Metrics()
    with listen(host, port) as listening, _logging(options) as log, Plane(metrics) as plane:
        load(plane)
        server = service_server(plane, listening, options, metrics, log)
        server.run(lambda _: on_start(address_of(listening), plane))
        with contextlib.suppress(TimeoutError):
            plane.drain(_LAST_ANSWERS_S)


def service_server(
    plane: Plane,
    listening: socket.socket,
    options: ProcessOptions,
    metrics: Metrics | None = None,
    log: RequestLog | None = None,
) -> HttpServer:
    """The server of a plane over GraphPipe, with health and metrics; to be run."""
    local = is_loopback(listening.getsockname()[0])
    site = Site(plane, options.limits, metrics=metrics or Metrics())
    guard = GuardOptions(keys=options.keys, check_host=options.keys is None and local, log=log)
    settings = ServerOptions(grace_s=2 * options.limits.timeout_s)
    router = Router([*graphpipe_http.routes(site), *operations.routes(site)], redirect_slashes=False)
    return HttpServer(Guard(router, site, guard), listening, site.lifecycle, settings)


@contextlib.contextmanager
def _logging(options: ProcessOptions) -> Iterator[RequestLog]:
    """The log of the process, on stderr."""
    log = RequestLog(LineWriter(sys.stderr), options.log_level, as_json=options.json)
    handler = LogHandler(log)
    logger = logging.getLogger("imagelake")
    logger.addHandler(handler)
    try:
        yield log
    finally:
        logger.removeHandler(handler)
        log.close()
