"""`imagelake models`: list, show, check and remove models; `add`, `pull` and `import` have files of their own."""

from __future__ import annotations

import json as json_library
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagelake.cli import models_pull
from imagelake.cli.models_add import FolderOption, add, described, registry_of
from imagelake.cli.output import JsonOption, write_json, write_line, write_table
from imagelake.errors import InputError

if TYPE_CHECKING:
    from imagelake.models.check import Checked
    from imagelake.models.registry import RegisteredModel

NameArgument = Annotated[str, typer.Argument(help="A model that was added.")]

models_app = typer.Typer(help="List, add, pull, import, show, check and remove models.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    models_app.callback(invoke_without_command=True)(models)
    models_app.command("list")(list_models)
    for verb in (add, show, check, remove):
        models_app.command()(verb)
    models_pull.register(models_app)
    app.add_typer(models_app, name="models")


def models(context: typer.Context, json: JsonOption = False) -> None:
    """List, add, pull, import, show, check and remove models.

    Without a further word, it lists them.

    \b
    Examples:
      imagelake models
      imagelake models add cats.onnx --task classifier --labels cats.txt --resize fill --order rgb --scale 1/255
      imagelake models check yolox-nano photo.jpg --out seen.png
    """
    if context.invoked_subcommand is None:
        list_models(json=json)


def list_models(models: FolderOption = None, json: JsonOption = False) -> None:
    """List the models: what they are for, where they come from, licence and size.

    \b
    Example:
      imagelake models list
    """
    from imagelake.errors import ModelError

    registry = registry_of(models)
    rows = _built_in()
    for name in registry.names():
        try:
            rows.append(_row(registry.get(name)))
        except ModelError as error:
            rows.append({"name": name, "task": "", "installed": False, "error": str(error)})
    if json:
        write_json(rows)
        return
    columns = ["name", "task", "installed", "runtime", "source", "licence", "size", "input", "gives"]
    write_table(columns, [_cells(row) for row in rows], right=["size"])


def show(name: NameArgument, models: FolderOption = None, json: JsonOption = False) -> None:
    """Show all that is known of a model.

    \b
    Example:
      imagelake models show yolox-nano
    """
    told = _described_built_in(name) or described(registry_of(models).get(name))
    if json:
        write_json(told)
        return
    labels = told.pop("labels") or []
    few = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    told["labels"] = f"{len(labels)}: {few}" if labels else "none"
    write_table(["what", "value"], [(key, _text(value)) for key, value in told.items()])


def check(
    name: NameArgument,
    pictures: Annotated[list[Path], typer.Argument(help="Image files.")],
    out: Annotated[Path | None, typer.Option(help="Draw what is found into this PNG.", show_default=False)] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads a call uses.")] = 1,
    models: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Run a model on pictures and show what it says of them; its files are hashed first.

    \b
    Example:
      imagelake models check yolox-nano photo.jpg --out seen.png
    """
    if out is not None and out.suffix.lower() != ".png":
        raise InputError(f"--out writes a PNG; {str(out)!r} does not end in .png")
    from imagelake.models.check import check_model, draw_checked
    from imagelake.pixels.grid import save_png

    model = registry_of(models).get(name)
    checked = check_model(model, pictures, threads=threads)
    if out is not None:
        drawn = draw_checked(model, checked)
        try:
            save_png(drawn, out)
        except OSError as error:
            raise InputError(f"{str(out)!r} cannot be written: {error.strerror}; give another --out") from error
    if json:
        write_json({"model": name, "task": model.manifest.task, "out": out, "pictures": checked})
        return
    _write_checked(checked)
    if out is not None:
        write_line(f"Drawn in {out}.")


def remove(name: NameArgument, models: FolderOption = None, json: JsonOption = False) -> None:
    """Remove a model that was added, with its files.

    \b
    Example:
      imagelake models remove yolox-nano
    """
    registry = registry_of(models)
    registry.remove(name)
    if json:
        write_json({"removed": name, "folder": registry.folder})
    else:
        write_line(f"Removed {name}.")


def _described_built_in(name: str) -> dict[str, Any] | None:
    """The manifest of a model that imagelake builds from installed weights; None for any other name."""
    from imagelake.models import manifest, zoo

    if name not in {model.name for model in zoo.models()}:
        return None
    model = zoo.manifest(name)
    told: dict[str, Any] = json_library.loads(manifest.to_json(model))
    return told | {"fingerprint": manifest.fingerprint(model), "installed": zoo.installed(model)}


def _built_in() -> list[dict[str, Any]]:
    """The models that imagelake builds from installed weights."""
    from imagelake.models import zoo

    return [
        {
            "name": model.name,
            "task": model.task,
            "installed": zoo.installed(model),
            "runtime": "onnx",
            "source": model.source_package,
            "licence": model.licence,
            "bytes": model.size_bytes,
            "input_size_wh": model.input_size_wh,
            "pooling": model.pooling,
            "metric": model.metric,
            "dimensions": model.dimensions,
            "precision": zoo.manifest(model.name).precision,
        }
        for model in zoo.models()
    ]


def _row(model: RegisteredModel) -> dict[str, Any]:
    """A registered model, in the same words."""
    manifest = model.manifest
    files = [model.folder / file for file in manifest.files.values()]
    return {
        "name": manifest.name,
        "task": manifest.task,
        "installed": all(file.is_file() for file in files),
        "runtime": manifest.runtime,
        "source": manifest.source,
        "licence": manifest.licence,
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "input_shape": manifest.inputs[0].shape if manifest.inputs else None,
        "head": manifest.head.get("kind"),
        "labels": len(manifest.labels),
        "precision": "int8" if manifest.model_role == "int8" else "fp32",
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    """A row for people."""
    if "error" in row:
        return (row["name"], "", "broken", "", row["error"])
    if "dimensions" in row:
        size = "x".join(map(str, row["input_size_wh"]))
        gives = f"{row['dimensions']} ({row['pooling']}, {row['metric']}, {row['precision']})"
    else:
        size = " x ".join("any" if side == -1 else str(side) for side in row["input_shape"] or ())
        labels = f"{row['labels']} label" + ("s" if row["labels"] > 1 else "")
        gives = f"{labels} ({row['head']})" if row["labels"] else row["head"]
    installed = "yes" if row["installed"] else "no"
    return (
        *(row["name"], row["task"], installed, row["runtime"], row["source"], row["licence"]),
        *(f"{row['bytes'] / 1e6:.1f} MB", size, gives),
    )


def _text(value: object) -> str:
    """A value of a manifest, for people."""
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):  # a transform
            (name,) = value
            return f"{name}: " + ", ".join(str(v) if k == name else f"{k} {v}" for k, v in inner.items())
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


def _write_checked(checked: Sequence[Checked]) -> None:
    """What was found, for people."""
    for one in checked:
        times = f"prepared in {one.prepare_ms:.0f} ms, run in {one.run_ms:.0f} ms"
        write_line(f"{one.picture} ({one.width} x {one.height}; {times})")
        if one.vector:
            words = [f"{int(one.vector['dimensions'])} numbers, length {one.vector['length']:.4g}"]
            words += [f"{key} {one.vector[key]:.4g}" for key in ("least", "mean", "greatest")]
            write_line(f"  {', '.join(words)}; cosine to the first picture {one.vector['cosine_to_first']:.4f}")
        elif not one.seen:
            write_line("  nothing was found")
        for seen in one.seen:
            where = ""
            if seen.box_xyxy != (0.0, 0.0, 1.0, 1.0):
                x1, y1, x2, y2 = seen.box_xyxy
                corners = (round(x1 * one.width), round(y1 * one.height), round(x2 * one.width), round(y2 * one.height))
                where = "  at {}, {} to {}, {}".format(*corners)
            write_line(f"  {seen.score:.2f}  {seen.label}{where}")
