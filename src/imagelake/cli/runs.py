"""`imagelake runs`."""

from __future__ import annotations

from typing import Annotated

import typer

import imagelake
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_table


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(runs)


def runs(
    lake: LakeOption,
    most: Annotated[int, typer.Option("-n", help="How many of them, the newest first.", min=1)] = 20,
    json: JsonOption = False,
) -> None:
    """List past runs of ingest, extract and receive: what was done, and where the time went.

    Seconds of stages are those of all threads and machines added up, so the largest is the one to make faster.

    \b
    Example:
      imagelake runs --lake photos.lake
    """
    found = imagelake.open(lake).runs()[:most]
    if json:
        write_json(found)
        return
    if not found:
        write_line("No runs yet.")
        return
    rows = []
    for each in found:
        stages = " ".join(f"{stage} {spent:,.1f}" for stage, spent in each.stages.items() if spent >= 0.05)
        rows.append((
            f"{each.finished_at:%Y-%m-%d %H:%M}",
            each.work + (f" ({each.engine})" if each.engine not in {None, "local"} else ""),
            f"{each.added:,}",
            f"{each.known:,}",
            f"{each.rejected:,}",
            "" if each.images_per_s is None else f"{each.images_per_s:,.0f}",
            stages,
            (each.fingerprint or "")[:12],
            each.subject or "",
        ))  # fmt: skip
    columns = ["finished (UTC)", "work", "added", "known", "rejected", "per s", "stages (s)", "fingerprint", "subject"]
    write_table(columns, rows, right=["added", "known", "rejected", "per s"])
