"""`imagelake events`: predictions for uploads, as they are told; `dead` and `replay` for those that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagelake.cli.models_add import FolderOption
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note, write_table
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.serve.event_store import Journal

_KEY_LETTERS = 12
_LONGEST_PAUSE_S = 600.0

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="FOLDER", help="Where events are kept until they are done.  [default: events in the lake]",
        show_default=False,
    ),
]  # fmt: skip

events_app = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    events_app.callback(invoke_without_command=True)(events)
    for verb in (dead, replay):
        events_app.command()(verb)
    app.add_typer(events_app, name="events")


def events(
    context: typer.Context,
    lake: Annotated[str | None, typer.Option("--lake", "-l", help="The lake: a folder.", show_default=False)] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: any free one, which is printed.")
    ] = "127.0.0.1:8090",
    model: Annotated[str, typer.Option(help="The classifier.")] = "efficientnet-lite0",
    bucket: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A bucket whose objects may be read; * for any. May be given again.",
                     show_default=False),
    ] = None,
    folders: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="BUCKET=FOLDER", help="Read the objects of a bucket from a folder.",
                     show_default=False),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host whose addresses in events may be read; * for any public one.",
                     show_default=False),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Of Oracle's object storage, such as eu-frankfurt-1.", show_default=False)
    ] = None,
    object_storage: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", envvar="IMAGELAKE_OBJECT_STORAGE", show_default=False,
                     help="Of an object there, with {namespace}, {bucket} and {name} in it."),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Read from addresses of this machine and its network too.")
    ] = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Do not sign requests to buckets.")] = False,
    keep_pictures: Annotated[bool, typer.Option("--keep-pictures", help="Put the pictures into the lake too.")] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False,
                     help="A file with the keys of senders, one a line.  [default: IMAGELAKE_API_KEY]"),
    ] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let everybody send events who reaches the address.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="For HTTPS: PEM.", show_default=False)] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key.", show_default=False)] = None,
    max_mb: Annotated[int, typer.Option(min=1, help="The largest object that is read, in MiB.")] = 64,
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many objects at a time.")] = 4,
    commit_s: Annotated[float, typer.Option(min=0.01, help="After how many seconds queries find a prediction.")] = 2.0,
    attempts: Annotated[int, typer.Option(min=1, help="How often an event is tried until it is dead.")] = 10,
    first_pause_s: Annotated[float, typer.Option(min=0.01, help="Before the second try; it doubles.")] = 2.0,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="How many events may wait; beyond, senders are told to come again.")
    ] = 1_000_000,
    state: StateOption = None,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Take upload events over HTTP, fetch each object, and record what the model says in the lake's predictions.

    POST /events takes CloudEvents 1.0, notifications of S3 and of what speaks like it, and events of Oracle's object
    storage. It is answered when the events are on the disk; each is done once, however often it comes. What fails is
    tried again, and in the end listed by `imagelake events dead`. Settings of stores are those of their own tools.

    With --json, the first line says where it listens and the last one how many events are in which state.

    \b
    Examples:
      imagelake events --lake photos.lake --bucket photos
      imagelake events --lake photos.lake --map photos=/srv/upload --listen 127.0.0.1:0
      imagelake events dead --lake photos.lake
      imagelake events replay --lake photos.lake
    """
    if context.invoked_subcommand is not None:
        return
    if lake is None:
        raise InputError("No lake is given. Say --lake FOLDER; it is made where there is none.")
    from imagelake.cli.events_run import EventSettings, run_events  # late: --help needs none of it
    from imagelake.serve.event_states import RetryOptions
    from imagelake.serve.event_worker import WorkOptions
    from imagelake.serve.object_fetch import ObjectOptions, oracle_address

    objects = ObjectOptions(
        buckets=frozenset(bucket or ()),
        hosts=frozenset(name.lower() for name in allow_host or ()),
        folders=_folders(folders or ()),
        object_storage=oracle_address(region) if region and not object_storage else object_storage,
        allow_private=allow_private,
        anonymous=anonymous,
        max_bytes=max_mb << 20,
    )
    settings = EventSettings(
        lake=lake,
        listen=listen,
        model=model,
        models=models,
        objects=objects,
        work=WorkOptions(workers=workers, commit_s=commit_s),
        retry=RetryOptions(attempts, first_pause_s, max(_LONGEST_PAUSE_S, first_pause_s)),
        most_waiting=max_waiting,
        state=state,
        keep_pictures=keep_pictures,
        api_key_file=api_key_file,
        no_key=no_key,
        tls=(tls_cert, tls_key),
    )

    def say(address: str, root: str) -> None:
        if json:
            write_json({"listening": address, "lake": root})
        else:
            write_line(f"Taking events for {root} at {address}/events. Ctrl-C ends it.")

    counts, trouble = run_events(settings, say)
    if json:
        write_json(counts)
    else:
        write_line(", ".join(f"{count:,} {state}" for state, count in counts.items()))
    if trouble is not None:
        write_note(f"imagelake: {trouble} The events that are not done wait for the next imagelake events.")
        raise typer.Exit(1)


def dead(lake: LakeOption, state: StateOption = None, json: JsonOption = False) -> None:
    """List the events that were given up: the object, how often it was tried, and why it failed.

    \b
    Example:
      imagelake events dead --lake photos.lake
    """
    from imagelake.serve.event_objects import shown

    with _journal(lake, state) as journal:
        letters, count = journal.dead(), journal.counts()["dead"]
    if count > len(letters):
        write_note(f"imagelake: the first {len(letters):,} of {count:,}; replay some to see the others.")
    if json:
        write_json([
            {
                "key": each.key, "uri": shown(each.event.uri), "event_id": each.event.id, "source": each.event.source,
                "attempts": each.attempts, "reason": each.reason, "died_at": each.died_at,
            }
            for each in letters
        ])  # fmt: skip
        return
    if not letters:
        write_line("No event was given up.")
        return
    rows = [
        (each.key[:_KEY_LETTERS], shown(each.event.uri), each.attempts, each.reason, f"{each.died_at:%Y-%m-%d %H:%M}")
        for each in letters
    ]
    write_table(["key", "object", "tried", "reason", "given up (UTC)"], rows, right=["tried"])


def replay(
    lake: LakeOption,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Of `dead`, or how it begins; none: all.")
    ] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Let events that were given up be tried again: by the imagelake events that runs, or the next one.

    \b
    Examples:
      imagelake events replay --lake photos.lake
      imagelake events replay 3f2a --lake photos.lake
    """
    with _journal(lake, state) as journal:
        count = journal.replay(keys or ())
    if json:
        write_json({"replayed": count})
    else:
        write_line(f"{count:,} {'event is' if count == 1 else 'events are'} tried again.")


@contextlib.contextmanager
def _journal(lake: str, state: Path | None) -> Iterator[Journal]:
    from imagelake.serve.event_states import events_folder
    from imagelake.serve.event_store import Journal

    with contextlib.closing(Journal(events_folder(lake, state))) as journal:
        yield journal


def _folders(given: Sequence[str]) -> dict[str, Path]:
    """The folders that stand for buckets."""
    found: dict[str, Path] = {}
    for each in given:
        name, _, folder = each.partition("=")
        if not name or not folder or not Path(folder).is_dir():
            raise InputError(f"--map {each!r} names no folder; give BUCKET=FOLDER, of a folder that is there.")
        found[name] = Path(folder)
    return found
