"""`imagelake models pull` and `imagelake models import`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagelake.cli.models_add import FolderOption, described, registry_of
from imagelake.cli.output import JsonOption, write_json, write_line, write_note, write_table
from imagelake.errors import InputError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imagelake.models.catalogue import CatalogueEntry
    from imagelake.models.conversion import Comparison, Imported
    from imagelake.models.guess import Answers
    from imagelake.models.registry import RegisteredModel, Registry

_PICTURES = 8  # enough to see that two models are the same, few enough to wait for


def register(app: typer.Typer) -> None:
    """Add the verbs to `imagelake models`."""
    app.command()(pull)
    app.command("import")(import_model)


def pull(
    name: Annotated[str | None, typer.Argument(help="A model of the catalogue.  [default: list them]")] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="PLACE", help="A folder with the file, the file, or a mirror's address."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must hash to.")] = None,
    trust_first: Annotated[
        bool, typer.Option("--trust-first", help="Where no hash is known: take what comes, and note its hash.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of this name.")] = False,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Fetch a model of the catalogue, check its hash, add it. Stopped, it goes on from there the next time.

    Without a name, it lists the catalogue.

    \b
    Examples:
      imagelake models pull
      imagelake models pull yolox-nano
      imagelake models pull yolox-nano --from /media/usb/models
      imagelake models pull yolox-nano --from https://mirror.example.org/models
    """
    if name is None:
        _list_catalogue(json)
        return
    from imagelake.cli.bar import download_bar
    from imagelake.models.catalogue import find_entry
    from imagelake.models.pull import PullOptions
    from imagelake.models.pull import pull as pull_model

    entry = find_entry(name)
    if not entry.reached and source is None:
        write_note(
            f"Note: nobody could try the address of {name} when the catalogue was written. Where its hash is from: "
            f"{entry.hash_source}."
        )
    options = PullOptions(source=source, sha256=sha256, trust_first=trust_first, replace=replace)
    with download_bar() as show:
        pulled = pull_model(entry, registry_of(models), options, show)
    if json:
        told = {"sha256_of_file": pulled.sha256, "from": pulled.source, "trusted_first": pulled.trusted_first}
        write_json(described(pulled.model) | told)
        return
    if pulled.source is None:
        write_line(f"{name} is there already, and its files are whole.")
        return
    how = "nobody had told its hash, it is noted now" if pulled.trusted_first else "checked"
    write_line(f"Added {name} from {pulled.source}; SHA-256 {pulled.sha256} ({how}).")
    write_line(f"Licence of the weights: {entry.licence}. Try it: imagelake models check {name} PICTURE --out seen.png")


def import_model(
    file: Annotated[Path, typer.Argument(help="A .pt2, TorchScript, .keras, .h5 or .pb file, or a SavedModel.")],
    to: Annotated[str | None, typer.Option("--to", help="What to call it.  [default: the file's name]")] = None,
    onnx: Annotated[Path | None, typer.Option(help="Only write this ONNX file, and add nothing.")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option(help="Compare on these image files.  [default: the demo's photos]")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Of TorchScript's input, such as any,3,224,224.")] = None,
    output: Annotated[list[str] | None, typer.Option(help="Of a .pb: a node that gives a result.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="The largest relative difference that is allowed.")] = 1e-3,
    manifest: Annotated[Path | None, typer.Option(help="A manifest that says how the model is used.")] = None,
    task: Annotated[str, typer.Option(help="detector, classifier, embedder or tensor.")] = "tensor",
    head: Annotated[str | None, typer.Option(help="Of a detector: ssd, yolox, yolov5, yolov8 or boxes.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A file with one label a line.")] = None,
    resize: Annotated[str | None, typer.Option(help="exact, fill, letterbox or letterbox-top-left.")] = None,
    order: Annotated[str | None, typer.Option(help="Order of the channels: rgb, bgr or gray.")] = None,
    scale: Annotated[float | None, typer.Option(help="What values of 0..255 are multiplied by.")] = None,
    licence: Annotated[str, typer.Option(help="SPDX name of the licence of the weights.")] = "unknown",
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of this name.")] = False,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Turn a model of torch, TensorFlow or Keras into ONNX, check that it is the same, add it.

    The file is looked through before any library opens it; one that could run its maker's code is refused. Both models
    then run on pictures, and what they give may differ by rounding only.

    \b
    Examples:
      imagelake models import resnet.pt2 --to resnet --task embedder --resize fill --order rgb --scale 0.00392157
      imagelake models import saved_model/ --to shoes --manifest shoes.json
      imagelake models import old.pt --shape any,3,224,224 --onnx new.onnx
    """
    from imagelake.models.guess import Answers

    with tempfile.TemporaryDirectory() as folder:
        target = onnx or Path(folder) / f"{file.stem}.onnx"
        imported = _import(file, target, _comparison(pictures, manifest, tolerance), shape, output or ())
        told: dict[str, Any] = {"agreements": imported.agreements, "onnx": str(onnx) if onnx else None}
        if onnx is None:
            answers = Answers(
                name=to, task=task, head=head, labels=_labels(labels), resize=resize, order=order, scale=scale,
                licence=licence, source=imported.source,
            )  # fmt: skip
            told |= described(_add(registry_of(models), imported, answers, manifest, replace=replace))
    if json:
        write_json(told)
        return
    for agreement in imported.agreements:
        write_line(f"The same as the original: {agreement}.")
    write_line(f"Wrote {onnx}." if onnx else f"Added {told['name']}, a {told['task']}.")


def _add(
    registry: Registry, imported: Imported, answers: Answers, manifest: Path | None, *, replace: bool
) -> RegisteredModel:
    """Add what was imported: with its manifest, as plain arrays in and out, or with what can be guessed."""
    from imagelake.models.adding import add_files, add_with_manifest, try_model
    from imagelake.models.file_manifest import FileManifest

    target = imported.onnx
    try:
        if manifest is not None:
            given = _beside(manifest, target)
            return add_with_manifest(registry, [target], given, name=answers.name, replace=replace)
        if answers.task != "tensor":
            return add_files(registry, [target], answers, replace=replace)
        plain = FileManifest(
            name=answers.name or target.stem,
            task="tensor",
            runtime="onnx",
            files={"model": target.name},
            inputs=imported.inputs,
            outputs=imported.outputs,
            licence=answers.licence,
            source=answers.source,
        )
        return registry.add(plain, {"model": target}, replace=replace, check=try_model)
    except ModelError as error:
        raise ModelError(_not_added(error, target)) from error


def _not_added(error: ModelError, target: Path) -> str:
    """What adding asks for, in words that lead on from here: the ONNX file goes with its folder."""
    told = str(error).replace(str(target), target.name)
    return (
        f"The model was turned into ONNX and is the same, but it is not added yet. Write it with --onnx "
        f"{target.name} in place of --to, and add that file with all options of `imagelake models add`. What "
        f"is missing: {told}"
    )


def _import(file: Path, target: Path, comparison: Comparison, shape: str | None, outputs: Sequence[str]) -> Imported:
    from imagelake.models.file_manifest import TensorSpec
    from imagelake.models.import_tensorflow import import_tensorflow_file, is_tensorflow
    from imagelake.models.import_torch import import_torch_file

    if not file.exists():
        raise InputError(f"there is no {file}; give a model's file, or the folder of a SavedModel")
    if is_tensorflow(file):
        return import_tensorflow_file(file, target, comparison, outputs=outputs)
    inputs = () if shape is None else (TensorSpec(name="input", shape=_shape(shape)),)
    return import_torch_file(file, target, comparison, inputs=inputs)


def _comparison(pictures: Sequence[Path] | None, manifest: Path | None, tolerance: float) -> Comparison:
    from imagelake.models.conversion import Comparison, Tolerance

    return Comparison(_images(pictures), _transforms(manifest), Tolerance(relative=tolerance))


def _images(pictures: Sequence[Path] | None) -> list[NDArray[np.uint8]]:
    from imagelake.errors import MissingExtraError
    from imagelake.pixels.decode import decode
    from imagelake.pixels.picture import open_picture
    from imagelake.sources.sample_photos import sample_photos

    if not pictures:
        try:
            pictures = sample_photos()
        except MissingExtraError as error:
            raise MissingExtraError(f"{error}; or give pictures to compare on with --pictures") from error
    images = []
    for picture in pictures[:_PICTURES]:
        try:
            images.append(decode(open_picture(picture.read_bytes())))
        except OSError as error:
            raise InputError(f"{picture} cannot be read ({error}); give image files with --pictures") from error
    return images


def _transforms(manifest: Path | None) -> Sequence[Any]:
    """The transforms that a manifest tells; whether the rest of it is right is seen when the model is added."""
    if manifest is None:
        return ()
    import json

    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))
        return list(told.get("transforms", ()))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {manifest} ({error}); give a manifest in JSON") from error


def _beside(manifest: Path, model: Path) -> Path:
    """The manifest as that of the ONNX file: what it says of files is of the original."""
    import json

    told = json.loads(manifest.read_text(encoding="utf-8"))
    told |= {"files": {"model": model.name}, "sha256": {}, "runtime": "onnx"}
    path = model.with_name("manifest-of-import.json")
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def _labels(path: Path | None) -> tuple[str, ...]:
    from imagelake.models.file_manifest import read_labels

    return read_labels(path) if path is not None else ()


def _shape(given: str) -> tuple[int, ...]:
    sides = [-1 if word.strip() in {"any", "-1"} else word.strip() for word in given.split(",")]
    if not all(side == -1 or str(side).isdecimal() for side in sides):
        raise InputError(f"--shape {given!r} is no shape; give sides with commas between them, such as any,3,224,224")
    return tuple(int(side) for side in sides)


def _list_catalogue(json: bool) -> None:
    from imagelake.models.catalogue import catalogue

    entries = catalogue()
    if json:
        write_json(entries)
        return
    rows = [
        (e.name, e.task, e.licence, _size(e), "known" if e.sha256 else "unknown", _reached(e), e.summary)
        for e in entries
    ]
    write_table(["name", "task", "licence", "size", "hash", "address", "what"], rows, right=["size"])


def _size(entry: CatalogueEntry) -> str:
    return f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "unknown"


def _reached(entry: CatalogueEntry) -> str:
    return "tried" if entry.reached else "never tried"
