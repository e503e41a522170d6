"""`imagelake extract`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagelake.cli.ingest import REJECTED, Engine
from imagelake.cli.output import JsonOption, write_json, write_line, write_note

if TYPE_CHECKING:
    from imagelake.run.extract import ExtractReport
    from imagelake.run.pipeline_options import ExtractOptions


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


class Keep(StrEnum):
    """Which boxes of a picture go on."""

    best = "best"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(extract)


def extract(
    lake: Annotated[
        str | None, typer.Option("--lake", "-l", help="The lake: a folder.  [needed without --source]")
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="FILE.toml", help="All steps and their settings in one file.", show_default=False),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Find regions and embed those: subject, or one of `imagelake models`."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B", help="With --detector, the wanted labels.  [default: all]")
    ] = None,
    keep: Annotated[
        Keep | None, typer.Option(help="With --detector, the best region of a picture or all.  [default: best]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="One of `imagelake models`.  [default: efficientnet-lite0]", show_default=False)
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="auto: int8 where the processor is made for it.  [default: auto]", show_default=False),
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side in pixels.  [default: the model's]", show_default=False)
    ] = None,
    pooling: Annotated[Pooling | None, typer.Option(help="[default: the model's]", show_default=False)] = None,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Only find regions.")] = False,
    code: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also make codes, with what `imagelake codes fit` made.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Pictures to ingest first; with --to, only to look at."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Parquet files instead of the lake's tables; on Spark, any address."),
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="On this machine, or on Spark.  [default: local]", show_default=False)
    ] = None,
    master: Annotated[
        str | None, typer.Option(metavar="URL", help="With --engine spark, such as spark://host:7077.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when an image could not be done.")] = False,
    json: JsonOption = False,
) -> None:
    """Give every image its vector, where it has none yet; with a detector, every region that it finds.

    Another model, precision, size, pooling or detector makes a new embedding set beside the old one. A picture in which
    nothing is found counts as one region, marked `fallback`.

    \b
    Examples:
      imagelake extract --lake photos.lake
      imagelake extract --lake photos.lake --detector subject
      imagelake extract --source photos/ --to features --detector subject
      imagelake extract --lake shop.lake --pipeline product.toml --engine spark --master spark://host:7077
    """
    from imagelake.cli.bar import progress_bar  # late: --help needs none of these
    from imagelake.run.engines import run_extraction

    steps: dict[str, Any] = {
        "--detector": detector, "--labels": labels, "--keep": keep, "--model": model, "--precision": precision,
        "--input-size": input_size, "--pooling": pooling, "--no-embed": no_embed or None, "--code": code,
    }  # fmt: skip
    options = _asked(steps) if pipeline is None else _read(pipeline, steps)
    options = _with_place(options, source, to, engine, master)
    with progress_bar() as bar:
        report = run_extraction(lake, options, bar)
    if json:
        write_json(report)
    else:
        _tell(report, lake)
    if strict and report.rejected:
        raise typer.Exit(REJECTED)


def _read(pipeline: str, steps: dict[str, Any]) -> ExtractOptions:
    from imagelake.run.pipeline_options import read_options

    beside = [name for name, value in steps.items() if value is not None]
    if beside:
        raise typer.BadParameter(f"{beside[0]} stands in the file: put it there", param_hint="--pipeline")
    return read_options(pipeline)


def _asked(steps: dict[str, Any]) -> ExtractOptions:
    from imagelake.run.pipeline_options import options_of

    asked: dict[str, Any] = {}
    if steps["--detector"] is None:
        for name in ("--labels", "--keep", "--no-embed"):
            if steps[name] is not None:
                raise typer.BadParameter("it belongs to --detector", param_hint=name)
    else:
        labels = [label.strip() for label in (steps["--labels"] or "").split(",") if label.strip()]
        if steps["--labels"] is not None and not labels:
            raise typer.BadParameter("it names no label", param_hint="--labels")
        asked["detect"] = {"model": steps["--detector"], "labels": labels, "keep": str(steps["--keep"] or "best")}
        if steps["--precision"] is not None:
            asked["detect"]["precision"] = str(steps["--precision"])
    embed = {
        "model": steps["--model"], "precision": steps["--precision"] and str(steps["--precision"]),
        "input_size": steps["--input-size"], "pooling": steps["--pooling"] and str(steps["--pooling"]),
    }  # fmt: skip
    for name in ("--model", "--input-size", "--pooling", "--code"):
        if steps["--no-embed"] is not None and steps[name] is not None:
            raise typer.BadParameter("it belongs to embedding, which --no-embed leaves out", param_hint=name)
    if steps["--no-embed"] is None:
        asked["embed"] = {name: value for name, value in embed.items() if value is not None}
    if steps["--code"] is not None:
        asked["code"] = {"model": steps["--code"]}
    return options_of(asked)


def _with_place(
    options: ExtractOptions, source: str | None, to: str | None, engine: Engine | None, master: str | None
) -> ExtractOptions:
    from dataclasses import replace

    options = replace(options, source=source or options.source, to=to or options.to)
    if engine is not None:
        options = replace(options, engine=engine.value)
    if master is not None:
        if options.engine != "spark":
            raise typer.BadParameter("it belongs to --engine spark", param_hint="--master")
        options = replace(options, spark=replace(options.spark, master=master))
    return options


def _tell(report: ExtractReport, lake: str | None) -> None:
    if report.ingested is not None:
        told = report.ingested
        write_line(
            f"{told.found:,} found: {told.added:,} added, {told.known:,} known, {told.rejected:,} rejected "
            f"({told.seconds:,.1f} s, {told.images_per_s:,.0f} images/s)"
        )
    place = report.to or report.embedding_set or "the regions table"
    if report.added == report.rejected == 0:
        write_line(f"Nothing to do: all {report.known:,} images are done in {place}.")
        return
    regions = ""
    if report.detector is not None:
        regions = f", {report.regions:,} regions by {report.detector}"
        if report.fallbacks:
            regions += f" ({report.fallbacks:,} whole pictures, where it found nothing)"
    write_line(
        f"{report.found:,} images: {report.added:,} done, {report.known:,} known, {report.rejected:,} rejected{regions}"
        f" ({report.seconds:,.1f} s, {report.images_per_s:,.0f} images/s) in {place}"
    )
    if report.rejected:
        why = f"imagelake rejections --lake {lake}" if report.to is None else "the column `error` of the files"
        write_note(f"Why were some rejected? {why}")
