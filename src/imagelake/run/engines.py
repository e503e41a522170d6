"""Where an extraction runs: on this machine or on Spark, from a lake or a source, into the lake or into files."""

from __future__ import annotations

from dataclasses import asdict, replace

from imagelake.errors import InputError
from imagelake.lake.tables import Tables, open_tables
from imagelake.run.codes import write_codes
from imagelake.run.extract import ExtractReport, extract
from imagelake.run.extract_to import extract_to
from imagelake.run.ingest import ingest
from imagelake.run.pipeline_options import ExtractOptions, SourceOptions, pipeline_of
from imagelake.run.progress import Progress
from imagelake.sources.open import open_source
from imagelake.sources.source import Source
from imagelake.steps.pipeline import Pipeline


def run_extraction(
    lake: Tables | str | None, options: ExtractOptions, progress: Progress | None = None
) -> ExtractReport:
    """Do what the options ask for.

    Args:
        lake: the lake, or where it is: with a source it is made there, once all else is known to be right. None where
            the options name a source and a place for files.
        options: steps, source, place of the results, engine. A source with a lake is ingested first.
        progress: told how far it is.

    Raises:
        InputError: lake, source and place do not go together.
        ModelError: a model is not known.
        MissingExtraError: Spark is asked for and not installed.
    """
    tables = open_tables(lake) if isinstance(lake, str) and options.source is None else lake
    pipeline = pipeline_of(options, progress)
    source = _open(options.source)
    if options.to is not None:
        if lake is not None and source is not None:
            raise InputError("--to takes pictures from a lake or a source: give one of --lake and --source.")
        given = source if isinstance(tables, str) or tables is None else tables
        return _to_files(given, pipeline, options, options.to, progress)
    if isinstance(tables, str):
        tables = open_tables(tables, create=True)
    if tables is None:
        raise InputError("Where do the results go? Give --lake, or with --source also --to for Parquet files.")
    return _to_lake(tables, source, pipeline, options, progress)


def _open(asked: str | SourceOptions | None) -> Source | None:
    if asked is None or isinstance(asked, str):
        return None if asked is None else open_source(asked)
    told = asdict(asked)
    return open_source(told.pop("what"), told)


def _to_lake(
    tables: Tables, source: Source | None, pipeline: Pipeline, options: ExtractOptions, progress: Progress | None
) -> ExtractReport:
    if options.engine == "spark":
        from imagelake.run import spark, spark_ingest  # late: an extra

        ingested = None if source is None else spark_ingest.ingest_spark(tables, source, options.spark, progress)
        report = spark.extract_spark(tables, pipeline, options.spark, progress)
    else:
        ingested = None if source is None else ingest(tables, source, progress)
        report = extract(tables, pipeline, progress)
    if pipeline.code is not None:
        write_codes(tables, pipeline.code, progress)  # of vectors that were made before there was a coder
    return replace(report, ingested=ingested)


def _to_files(
    given: Tables | Source | None, pipeline: Pipeline, options: ExtractOptions, to: str, progress: Progress | None
) -> ExtractReport:
    if given is None:
        raise InputError("--to takes pictures from a lake or a source: give one of --lake and --source.")
    if options.engine == "spark":
        from imagelake.run import spark  # late: an extra

        return spark.extract_spark_to(given, pipeline, to, options.spark, progress)
    return extract_to(given, pipeline, to, progress)
