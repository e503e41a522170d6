"""`imagelake extract`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

import imagelake
from imagelake.cli.ingest import REJECTED
from imagelake.cli.output import JsonOption, LakeOption, write_json, write_line, write_note


class Precision(StrEnum):
    """What a model computes in."""

    auto = "auto"
    int8 = "int8"
    fp32 = "fp32"


class Pooling(StrEnum):
    """How a feature map becomes a vector."""

    avg = "avg"
    max = "max"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(extract)


def extract(
    lake: LakeOption,
    model: Annotated[str, typer.Option(help="One of `imagelake models`.")] = "efficientnet-lite0",
    precision: Annotated[
        Precision, typer.Option(help="auto: int8 where the processor is made for it.")
    ] = Precision.auto,
    input_size: Annotated[
        int | None, typer.Option(help="Side in pixels.  [default: the model's]", show_default=False)
    ] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="[default: the model's]", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when an image could not be embedded.")] = False,
    json: JsonOption = False,
) -> None:
    """Give every image its vector, where it has none yet.

    Another model, precision, size or pooling makes a new embedding set beside the old one.

    \b
    Example:
      imagelake extract --lake photos.lake
    """
    opened = imagelake.open(lake)
    chosen = imagelake.model(
        model, precision=precision.value, input_size=input_size, pooling=None if pooling is None else pooling.value
    )
    from imagelake.cli.bar import progress_bar  # late: --help needs neither
    from imagelake.models.embedder import settle

    with progress_bar() as bar:
        if precision is Precision.auto:
            chosen = settle(chosen, bar.say)
        report = opened.extract(chosen, bar)
    if json:
        write_json(report)
    elif report.added == report.rejected == 0:
        write_line(f"Nothing to do: all {report.known:,} images have a vector in {report.embedding_set}.")
    else:
        write_line(
            f"{report.found:,} images: {report.added:,} embedded, {report.known:,} known, {report.rejected:,} rejected "
            f"({report.seconds:,.1f} s, {report.images_per_s:,.0f} images/s) in {report.embedding_set}"
        )
    if report.rejected and not json:
        write_note(f"Why were some rejected? imagelake rejections --lake {lake}")
    if strict and report.rejected:
        raise typer.Exit(REJECTED)
