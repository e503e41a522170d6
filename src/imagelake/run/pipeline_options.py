"""What a user asks of an extraction: one object, from a TOML file or from words, and the pipeline that it means."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from imagelake.errors import InputError
from imagelake.models.choice import DetectorModel, SubjectModel, choose_coder, choose_detector, choose_embedder
from imagelake.models.manifest import Pooling
from imagelake.models.registry import Registry
from imagelake.run.progress import Progress, Silent
from imagelake.steps.pipeline import Crop, Detect, Pipeline

Precision = Literal["auto", "fp32", "int8"]


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """The table `[detect]`.

    Attributes:
        model: a detector of `imagelake models`, or `subject`.
        labels: the wanted labels; empty: all.
        min_score: boxes with a lower score are left out, 0 to 1.
        keep: `best` or `all`.
        most: with `all`, at most so many boxes a picture.
        precision: `auto`, `fp32` or `int8`.
    """

    model: str
    labels: tuple[str, ...] = ()
    min_score: float = 0.3
    keep: Literal["best", "all"] = "best"
    most: int = 100
    precision: Precision = "auto"


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """The table `[crop]`.

    Attributes:
        margin: what is added on each side of a box, as a share of its width and height.
    """

    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """The table `[embed]`.

    Attributes:
        model: one of `imagelake models`; left out, the default model.
        precision: `auto`, `fp32` or `int8`.
        input_size: a side in pixels; left out, the model's own.
        pooling: `avg`, `max` or `none`; left out, the model's own.
    """

    model: str | None = None
    precision: Precision = "auto"
    input_size: int | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True, kw_only=True)
class CodeOptions:
    """The table `[code]`.

    Attributes:
        model: what `imagelake codes fit` made.
    """

    model: str


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """The table `[source]`: what `imagelake ingest` takes, with its options of the same names.

    Attributes:
        what: a folder, a bucket, a database, a list of addresses, ...
        column: which column of a table has the pictures.
        table: of a database, which table.
        query: of a database, one SELECT instead of a table.
        id_column: of a database, the column of keys.
        part: of a database, only this part of M, as `N/M`.
        allow_private: also fetch from private and local network addresses.
        anonymous: read a public bucket without credentials.
    """

    what: str
    column: str | None = None
    table: str | None = None
    query: str | None = None
    id_column: str | None = None
    part: str | None = None
    allow_private: bool = False
    anonymous: bool = False


@dataclass(frozen=True, kw_only=True)
class SparkOptions:
    """The table `[spark]`, used with the engine `spark`.

    Attributes:
        master: such as `local-cluster[2,1,2048]`, `spark://host:7077`, `yarn`; left out, that of `spark-submit`.
        conf: settings of Spark by name.
    """

    master: str | None = None
    conf: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """What to do with each picture, and where. A step that is left out is not done.

    Attributes:
        detect: find regions.
        crop: cut them out before embedding; where there are a detector and an embedder, that is so unless it is False.
        embed: make vectors.
        code: make binary codes of them.
        source: pictures, as `imagelake ingest` takes them: ingested first with a lake, only looked at with `to`.
        to: a place for Parquet files, instead of the tables of the lake.
        engine: `local` or `spark`.
        spark: how to reach Spark.
    """

    detect: DetectOptions | None = None
    crop: CropOptions | Literal[False] | None = None
    embed: EmbedOptions | None = None
    code: CodeOptions | None = None
    source: str | SourceOptions | None = None
    to: str | None = None
    engine: Literal["local", "spark"] = "local"
    spark: SparkOptions = SparkOptions()


_TABLES: dict[str, type] = {
    "detect": DetectOptions,
    "crop": CropOptions,
    "embed": EmbedOptions,
    "code": CodeOptions,
    "source": SourceOptions,
    "spark": SparkOptions,
}


def read_options(path: str | os.PathLike[str]) -> ExtractOptions:
    """Read a pipeline from a TOML file.

    Raises:
        InputError: it cannot be read, is no TOML, or has a key or a value that is not allowed; the nearest are named.
    """
    name = os.fspath(path)
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{name!r} cannot be read: {error.strerror}. Give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name!r} is no TOML: {error}.") from error
    return options_of(given, name)


def options_of(given: Mapping[str, Any], name: str = "the pipeline") -> ExtractOptions:
    """The options in nested mappings, as a TOML file has them.

    Raises:
        InputError: a key or a value is not allowed.
    """
    _refuse_unknown(name, "", given, ExtractOptions)
    values = dict(given)
    for table, kind in _TABLES.items():
        short = (table == "crop" and given.get(table) is False) or isinstance(given.get(table), str)
        if table in given and not (short and table in {"crop", "source"}):
            values[table] = _table(name, table, given[table], kind)
    _check_values(name, "", values, ExtractOptions, skip=set(_TABLES))
    return ExtractOptions(**values)


def _table(name: str, table: str, given: object, kind: type) -> Any:
    if not isinstance(given, Mapping):
        raise InputError(f"{name}: {table} is {given!r}; it is a table: [{table}] with {_names(kind)}.")
    _refuse_unknown(name, f"[{table}] ", given, kind)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    _check_values(name, f"[{table}] ", values, kind)
    missing = [
        each.name
        for each in dataclasses.fields(kind)
        if each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
        and each.name not in given
    ]
    if missing:
        raise InputError(f"{name}: [{table}] lacks {', '.join(missing)}.")
    return kind(**values)


def _names(kind: type) -> str:
    return ", ".join(each.name for each in dataclasses.fields(kind))


def _refuse_unknown(name: str, where: str, given: Mapping[str, Any], kind: type) -> None:
    known = [each.name for each in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InputError(f"{name}: {where}{key} is not known.{hint} Allowed are {', '.join(known)}.")


def _check_values(name: str, where: str, values: Mapping[str, Any], kind: type, skip: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    hints = typing.get_type_hints(kind)
    for key, value in values.items():
        if key not in skip and not _fits(value, hints[key]):
            raise InputError(f"{name}: {where}{key} is {value!r}; give {_told(hints[key])}.")


def _fits(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return any(value is each or (value == each and type(value) is type(each)) for each in typing.get_args(hint))
    if origin in {typing.Union, types.UnionType}:
        return any(_fits(value, each) for each in typing.get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if origin is not None:
        return isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint or (value is None and hint is type(None))


def _told(hint: Any) -> str:
    """What is allowed, in words."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in typing.get_args(hint))
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_told(each) for each in typing.get_args(hint) if each is not type(None))
    if origin is tuple:
        return 'a list of words such as ["cat", "dog"]'
    if origin is not None:
        return "a table of words"
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[hint]


def pipeline_of(
    options: ExtractOptions, progress: Progress | None = None, registry: Registry | None = None
) -> Pipeline:
    """Find the models that are asked for, and put the steps together.

    Raises:
        ModelError: a model is not known, or is of another kind.
        InputError: the steps do not go together, or a wanted label is none of the detector's.
    """
    say = (progress or Silent()).say
    detect = embed = code = None
    if options.detect is not None:
        asked = options.detect
        found = choose_detector(asked.model, precision=asked.precision, registry=registry, on_progress=say)
        _check_labels(found, asked)
        detect = Detect(model=found, labels=asked.labels, min_score=asked.min_score, keep=asked.keep, most=asked.most)
    if options.embed is not None:
        embed = choose_embedder(
            options.embed.model,
            precision=options.embed.precision,
            input_size=options.embed.input_size,
            pooling=options.embed.pooling,
            registry=registry,
            on_progress=say,
        )
    if options.code is not None:
        code = choose_coder(options.code.model, registry=registry)
    crop = None
    if options.crop is not False and (options.crop is not None or (detect is not None and embed is not None)):
        crop = Crop(margin=0.0 if options.crop is None else options.crop.margin)
    return Pipeline(detect=detect, crop=crop, embed=embed, code=code)


def _check_labels(model: DetectorModel, asked: DetectOptions) -> None:
    known = ("subject",) if isinstance(model, SubjectModel) else model.manifest.labels
    unknown = [label for label in asked.labels if label not in known]
    if known and unknown:
        near = [each for label in unknown for each in difflib.get_close_matches(label, known, n=2)]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        raise InputError(f"{asked.model} has no label {unknown[0]!r}.{hint} It has {len(known)}: {shown}.")
