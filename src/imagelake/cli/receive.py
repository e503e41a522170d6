"""`imagelake receive`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.run.intake_commit import DrainReport

_MB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(receive)


def receive(
    lake: LakeOption,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one, which is printed.")],
    host: Annotated[str, typer.Option(help="Which address of this machine to listen on.")] = "127.0.0.1",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="IMAGELAKE_API_KEY", metavar="KEY", help="What a request must show. Better not on the command line.",
            show_default=False,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the key.", show_default=False)
    ] = None,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="Let everybody post who reaches the address, also from other machines.")
    ] = False,
    max_mb: Annotated[int, typer.Option(min=1, help="The largest request, in MiB.")] = 32,
    memory_mb: Annotated[
        int, typer.Option(min=1, help="For pictures on their way, in MiB; above it, clients are asked to wait.")
    ] = 256,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="How long a request may take to arrive.")] = 30.0,
    commit_s: Annotated[float, typer.Option(min=0.1, help="After how many seconds queries find a picture.")] = 2.0,
    spool: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where pictures are kept until then, for a lake in a bucket.",
                     show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Receive pictures over HTTP, from a camera or any device that can POST; make the lake where there is none.

    POST /images takes a picture as the body, or as the file `image` of a form. It is answered with the picture's id
    when the picture is on the disk. Who sends more than can be kept up with is told to wait (429). GET /health tells
    how many came. Without a key, only this machine may post. SIGTERM and Ctrl-C finish what was accepted.

    With --json, the first line says where it listens and the last one what came.

    \b
    Examples:
      imagelake receive --lake photos.lake --port 8080
      IMAGELAKE_API_KEY=... imagelake receive --lake photos.lake --port 8080 --host 0.0.0.0
      curl --data-binary @a.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8080/images
    """
    from imagelake.serve.receive_server import address_of, is_loopback, listen, serve  # late: --help needs none of them

    key = _key(api_key, api_key_file)
    if key is None and not no_key and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, and there is no API key. Set IMAGELAKE_API_KEY or give "
            "--api-key-file; or --no-key, to let everybody post."
        )
    if memory_mb < 2 * max_mb + 1:
        raise InputError(
            f"--memory-mb {memory_mb} has no room for a request of --max-mb {max_mb}; give at least {2 * max_mb + 1}."
        )
    from imagelake.run.commits import CommitSize
    from imagelake.run.intake import IntakeOptions, open_intake
    from imagelake.serve.receive import ReceiveOptions, receiver

    size = CommitSize(max_bytes=max(_MB, memory_mb * _MB // 8), max_rows=2048, max_seconds=commit_s)
    with listen(host, port) as listening:
        tables = imagelake.open(lake, create=True).tables
        intake, drained = open_intake(tables, IntakeOptions(max_bytes=memory_mb * _MB, commit=size), spool)
        _tell_drained(drained)
        address = address_of(listening)

        def say() -> None:
            if json:
                write_json({"listening": address, "lake": tables.root})
            else:
                write_line(f"Receiving pictures for {tables.root} at {address}/images. Ctrl-C ends it.")

        try:
            app = receiver(intake, ReceiveOptions(key, max_mb * _MB, timeout_s))
            serve(app, listening, timeout_s, say)
        finally:
            left = intake.close()
    counts = intake.counts()
    if json:
        write_json(counts)
    else:
        write_line(
            f"{counts['received']:,} received, {counts['known']:,} of them known; {counts['rejected']:,} rejected"
        )
    if left:
        write_note(f"imagelake: {intake.trouble} {left:,} pictures wait; the next imagelake receive commits them.")
        raise typer.Exit(1)


def _key(given: str | None, file: Path | None) -> str | None:
    if file is None:
        key = given
    else:
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The key cannot be read from {file}: {error}. Give a file with one line.") from error
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise InputError(
            "The API key is empty or has letters that a header cannot carry; use ASCII letters and digits."
        )
    return key


def _tell_drained(drained: DrainReport | None) -> None:
    if drained is None:
        return
    write_note(f"{drained.ingested.found:,} pictures of the last run, which was cut off, are in the lake now.")
    for name in drained.damaged:
        write_note(f"A part of {name} cannot be read; the file is kept.")
