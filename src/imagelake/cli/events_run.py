"""What `imagelake events` runs: a server, a journal, threads that work, and the end of all of them in order."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagelake
from imagelake.cli.models_add import registry_of
from imagelake.cli.output import write_note
from imagelake.errors import BusyError, ImagelakeError, InputError
from imagelake.serve.api_keys import Keys, read_key_file, read_keys
from imagelake.serve.event_objects import shown
from imagelake.serve.event_states import RetryOptions, events_folder
from imagelake.serve.event_store import Journal
from imagelake.serve.event_upload import UploadEvent
from imagelake.serve.event_worker import EventWorker, Keep, WorkOptions
from imagelake.serve.events import MOST_BYTES, events_app
from imagelake.serve.guard import GuardOptions
from imagelake.serve.listening import address_of, is_loopback, listen, read_address
from imagelake.serve.object_fetch import ObjectFetcher, ObjectOptions
from imagelake.serve.plane import Plane
from imagelake.serve.predictions import PlanePredictor, PredictionWriter, Seen
from imagelake.serve.served_models import open_named
from imagelake.serve.server import HttpServer, ServerOptions, tls_context
from imagelake.serve.site import Limits, Site

if TYPE_CHECKING:
    import ssl

    from imagelake.lake.tables import Tables
    from imagelake.run.intake import Intake

_PATIENCE_S = 30.0
_BODY_BUDGET = 64 << 20
_BODY_S = 30.0
_KEY = "IMAGELAKE_API_KEY"


@dataclass(frozen=True)
class EventSettings:
    """What a person chose; the names are those of the options."""

    lake: str
    listen: str
    model: str
    models: Path | None
    objects: ObjectOptions
    work: WorkOptions
    retry: RetryOptions
    most_waiting: int
    state: Path | None
    keep_pictures: bool
    api_key_file: Path | None
    no_key: bool
    tls: tuple[Path | None, Path | None]


def run_events(
    settings: EventSettings, say: Callable[[str, str], None]
) -> tuple[dict[str, int], ImagelakeError | None]:
    """Serve until a signal, and finish what was begun.

    Args:
        settings: what was chosen.
        say: told the address and the lake when events are taken.

    Returns:
        How many events are in which state, and why the lake could not be written, where it could not.

    Raises:
        InputError: a setting cannot be used.
        LakeError: the lake or the journal cannot.
        ModelError: there is no such model.
    """
    host, port = read_address(settings.listen)
    keys = _keys(settings, host)
    tls = _tls(*settings.tls)
    folder = events_folder(settings.lake, settings.state)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        plane = stack.enter_context(Plane())
        plane.load(open_named(settings.model, registry=registry_of(settings.models), on_progress=write_note))
        predictor = PlanePredictor(plane, settings.model)
        tables = imagelake.open(settings.lake, create=True).tables
        journal = stack.enter_context(
            contextlib.closing(Journal(folder, works=True, retry=settings.retry, most_waiting=settings.most_waiting))
        )
        reader = stack.enter_context(contextlib.closing(ObjectFetcher(settings.objects)))
        keep = stack.enter_context(_keeping(tables)) if settings.keep_pictures else None
        worker = EventWorker(journal, reader, predictor, PredictionWriter(tables), settings.work, keep)
        site = Site(plane, Limits(max_body=MOST_BYTES, body_budget=_BODY_BUDGET, body_timeout_s=_BODY_S))
        guard = GuardOptions(keys=keys, check_host=keys is None and is_loopback(host))
        app = events_app(site, journal, worker, reader.why_not, guard)
        server = HttpServer(app, listening, site.lifecycle, ServerOptions(tls=tls))
        worker.start()
        try:
            server.run(lambda _: say(address_of(listening, "https" if tls else "http"), tables.root))
        finally:
            worker.close()
        return journal.counts(), worker.trouble


def _keys(settings: EventSettings, host: str) -> Keys | None:
    """Who may send events.

    Raises:
        InputError: others can reach the address, and nobody said who may.
    """
    if settings.api_key_file is not None:
        return read_key_file(settings.api_key_file)
    if os.environ.get(_KEY) is not None:
        return read_keys(os.environ[_KEY], _KEY)
    if not settings.no_key and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, and there is no API key. Set {_KEY} or give --api-key-file; "
            "or --no-key, to let everybody send events."
        )
    return None


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("TLS needs both --tls-cert and --tls-key; give the other one too.")
    return tls_context(certificate, key)


@contextlib.contextmanager
def _keeping(tables: Tables) -> Any:
    """What puts pictures into the lake too."""
    from imagelake.run.intake import open_intake  # late: only --keep-pictures needs it

    intake, _ = open_intake(tables)
    try:
        yield keeper(intake)
    finally:
        intake.close()


def keeper(intake: Intake) -> Keep:
    """Hands a picture to an intake, and waits until it is on the disk."""

    def keep(data: bytes, event: UploadEvent, _: Seen) -> None:
        cost = intake.cost(len(data))
        until = time.monotonic() + _PATIENCE_S
        while not intake.reserve(cost):
            if time.monotonic() > until:
                raise BusyError(f"there was no room for the picture within {_PATIENCE_S:g} s")
            time.sleep(0.05)
        told = event.about
        about: dict[str, str | float] = {"uri": shown(event.uri)}
        if told.latitude is not None and told.longitude is not None:
            about |= {"latitude": told.latitude, "longitude": told.longitude}
        if told.device is not None:
            about["device"] = told.device
        intake.submit(data, about).result()

    return keep
