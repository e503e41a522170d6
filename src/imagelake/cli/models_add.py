"""`imagelake models add`."""

from __future__ import annotations

import json as json_library
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagelake.cli.output import JsonOption, write_json, write_line
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.models.registry import RegisteredModel, Registry

FolderOption = Annotated[
    Path | None,
    typer.Option("--models", help="The folder of models.  [default: the user's data folder]", show_default=False),
]


def registry_of(folder: Path | None) -> Registry:
    """The registry in a folder, or the user's."""
    from imagelake.models.registry import Registry, default_registry  # late: --help needs neither

    return default_registry() if folder is None else Registry(folder)


def described(model: RegisteredModel) -> dict[str, Any]:
    """The manifest as JSON has it, with its fingerprint and its folder."""
    from imagelake.models.file_manifest import file_fingerprint, to_json

    described: dict[str, Any] = json_library.loads(to_json(model.manifest))
    return described | {"fingerprint": file_fingerprint(model.manifest), "folder": str(model.folder)}


def add(
    files: Annotated[list[Path], typer.Argument(help="The model, and what belongs to it: .prototxt, .npz, ...")],
    name: Annotated[str | None, typer.Option(help="What to call it.  [default: the file's name]")] = None,
    task: Annotated[str | None, typer.Option(help="detector, classifier, embedder or tensor.")] = None,
    head: Annotated[str | None, typer.Option(help="Of a detector: ssd, yolox, yolov5, yolov8 or boxes.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the head, such as score_threshold=0.5.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="A file with one label a line, or words with commas.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels, where the file does not say.")] = None,
    resize: Annotated[str | None, typer.Option(help="exact, fill, letterbox or letterbox-top-left.")] = None,
    fill: Annotated[float, typer.Option(help="Gray of a letterbox's bars, 0 to 255.")] = 114,
    order: Annotated[str | None, typer.Option(help="Order of the channels: rgb, bgr or gray.")] = None,
    scale: Annotated[str | None, typer.Option(help="What values of 0..255 are multiplied by: 1, 1/255.")] = None,
    mean: Annotated[str | None, typer.Option(help="Subtracted after --scale: one number, or one a channel.")] = None,
    std: Annotated[str | None, typer.Option(help="Divided by after --mean.")] = None,
    output: Annotated[list[str] | None, typer.Option(help="An output that the head reads.")] = None,
    int8: Annotated[Path | None, typer.Option(help="The same model in int8, for processors made for it.")] = None,
    licence: Annotated[str, typer.Option(help="SPDX name of the licence of the weights.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where the files come from.")] = "unknown",
    manifest: Annotated[Path | None, typer.Option(help="A manifest that says all of this.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of this name.")] = False,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Add a model that lies as files: ONNX, Caffe, TensorFlow .pb, TFLite, torch .pt2 or TorchScript.

    What the files say is taken from them; what they do not say is asked for, with an example. The model is tried
    before it is added, and its files are copied and hashed.

    \b
    Examples:
      imagelake models add resnet50.onnx --task embedder --resize fill --order rgb --mean 124,116,104 --std 58,57,57
      imagelake models add yolox.onnx --head yolox --labels coco.txt --resize letterbox-top-left --order bgr --scale 1
      imagelake models add qr_ssd.caffemodel qr_ssd.prototxt --labels "qr code" --resize exact --scale 1/255
      imagelake models add model.onnx --manifest model.json
    """
    from imagelake.models.adding import add_files, add_with_manifest
    from imagelake.models.guess import Answers

    registry = registry_of(models)
    if manifest is not None:
        added = add_with_manifest(registry, files, manifest, name=name, int8=int8, replace=replace)
    else:
        answers = Answers(
            name=name,
            task=task,
            head=head,
            settings=dict(_setting(word) for word in settings or ()),
            labels=_labels(labels),
            size_wh=_size(size),
            resize=resize,
            fill=fill,
            order=order,
            scale=None if scale is None else _number("--scale", scale),
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
            outputs=tuple(output or ()),
            int8=int8,
            licence=licence,
            source=source,
        )
        added = add_files(registry, files, answers, said=_said(), replace=replace)
    if json:
        write_json(described(added))
        return
    write_line(f"Added {added.manifest.name}, a {added.manifest.task} that {added.manifest.runtime} runs.")
    write_line(f"Try it: imagelake models check {added.manifest.name} PICTURE --out seen.png")


def _said() -> list[str]:
    """The words after `models add` as they were typed, which an example repeats."""
    words = sys.argv
    return words[words.index("add") + 1 :] if "add" in words else []


def _setting(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise InputError(f"--set {word!r} is not KEY=VALUE; give one such as score_threshold=0.5")
    try:
        return key, json_library.loads(value)
    except ValueError:
        return key, value


def _labels(given: str | None) -> tuple[str, ...]:
    """The lines of a file, or words with commas between them."""
    if given is None:
        return ()
    from imagelake.models.file_manifest import read_labels

    if Path(given).is_file() or given.endswith((".txt", ".names")):
        return read_labels(Path(given))
    return tuple(word.strip() for word in given.split(",") if word.strip())


def _size(given: str | None) -> tuple[int, int] | None:
    if given is None:
        return None
    words = given.lower().split("x")
    words = words * 2 if len(words) == 1 else words
    if len(words) != 2 or not all(word.isdecimal() and 0 < int(word) <= 32_766 for word in words):
        raise InputError(f"--size {given!r} is no size; give WIDTHxHEIGHT in pixels, such as 224x224")
    return int(words[0]), int(words[1])


def _numbers(option: str, given: str | None) -> tuple[float, ...]:
    return () if given is None else tuple(_number(option, word) for word in given.split(","))


def _number(option: str, word: str) -> float:
    """A number, or a fraction such as 1/255."""
    above, slash, below = word.partition("/")
    try:
        return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{option} {word!r} is no number; give one such as 0.5 or 1/255") from error
