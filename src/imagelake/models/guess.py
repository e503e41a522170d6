"""Write the manifest of a model from its files and from what a person says; ask for what neither tells."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from imagelake.errors import ModelError
from imagelake.models.file_facts import FileFacts, read_facts, read_inputs, sort_files
from imagelake.models.file_manifest import FileManifest, Task, require_name
from imagelake.models.guess_head import HeadGuess, guess_head
from imagelake.models.heads import BOXES_OUTPUTS, SETTINGS

RESIZES = ("exact", "fill", "letterbox", "letterbox-top-left")
ORDERS = ("rgb", "bgr", "gray")
NUMBERS = ("uint8", "float32", "float16")


@dataclass(frozen=True)
class Answers:
    """What a person says about a model; None and empty where nothing is said.

    Attributes:
        name: what to call the model.
        task: what it is for.
        head: the kind of its head.
        settings: settings of the head.
        labels: the names of the classes.
        size_wh: width and height of the pictures it takes, in pixels.
        resize: one of `RESIZES`.
        fill: the value, 0..255, of the bars of a letterbox.
        order: one of `ORDERS`.
        scale: what values of 0..255 are multiplied by.
        mean: what is then subtracted, one number or one a channel in the given order.
        std: what is then divided by.
        outputs: the outputs that the head reads.
        int8: the same model in int8.
        licence: the SPDX name of the licence of the weights.
        source: where the files come from.
    """

    name: str | None = None
    task: str | None = None
    head: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    size_wh: tuple[int, int] | None = None
    resize: str | None = None
    fill: float = 114.0
    order: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()
    int8: Path | None = None
    licence: str = "unknown"
    source: str = "unknown"


@dataclass(frozen=True)
class Question:
    """Something that a person has to say: the option, what it means, and words that would do."""

    option: str
    meaning: str
    example: str


@dataclass(frozen=True)
class Draft:
    """A manifest and the files that it means, role to path."""

    manifest: FileManifest
    files: Mapping[str, Path]


def draft(paths: Sequence[Path], answers: Answers, said: Sequence[str] = ()) -> Draft:
    """Write the manifest of some files.

    Args:
        paths: the model and what belongs to it.
        answers: what a person says.
        said: the words of the command line, which begin the example of a question.

    Raises:
        ModelError: something is wrong; or something is missing, and the message asks for all of it at once.
    """
    for what, given, allowed in (("resize", answers.resize, RESIZES), ("order", answers.order, ORDERS)):
        if given is not None and given not in allowed:
            raise ModelError(f"{what} {given!r} is not known; use one of {', '.join(allowed)}")
    files = sort_files(paths, answers.int8)
    if answers.task == "tensor":
        return _draft_of_arrays(files, answers)
    facts = read_facts(files, answers.size_wh, 1 if answers.order == "gray" else 3, answers.outputs)
    name = answers.name or _name_of(files["model"])
    require_name(name)
    size_wh = _size(facts, answers)
    questions = [] if size_wh else [Question("--size", "width and height of the pictures it takes", "--size 224x224")]
    found = HeadGuess(answers.task)
    if {"boxes", "scores"} <= answers.settings.keys():
        named = tuple(str(answers.settings[key]) for key in BOXES_OUTPUTS if answers.settings.get(key))
        found = HeadGuess("detector", {"kind": "boxes"}, named)
    elif size_wh:
        found = guess_head(facts.outputs, size_wh, task=answers.task, labels=len(answers.labels))
    questions += _questions(facts, answers, found, size_wh)
    if questions or size_wh is None:
        raise ModelError(_ask(files["model"], questions, said or [str(path) for path in paths]))
    manifest = FileManifest(
        name=name,
        task=cast("Task", found.task or answers.task),
        runtime=facts.runtime,
        files={role: path.name for role, path in files.items()},
        inputs=facts.inputs,
        transforms=tuple(_transforms(facts, answers, size_wh)),
        head=_head(found, answers),
        outputs=found.outputs,
        labels=answers.labels,
        licence=answers.licence,
        source=answers.source,
    )
    return Draft(manifest, files)


def _draft_of_arrays(files: Mapping[str, Path], answers: Answers) -> Draft:
    """A model that takes and gives arrays: nothing about pictures has to be known."""
    facts = read_inputs(files, answers.size_wh, 1 if answers.order == "gray" else 3, answers.outputs)
    manifest = FileManifest(
        name=answers.name or _name_of(files["model"]),
        task="tensor",
        runtime=facts.runtime,
        files={role: path.name for role, path in files.items()},
        inputs=facts.inputs,
        outputs=answers.outputs,
        labels=answers.labels,
        licence=answers.licence,
        source=answers.source,
    )
    return Draft(manifest, files)


def _size(facts: FileFacts, answers: Answers) -> tuple[int, int] | None:
    if facts.size_wh and answers.size_wh and facts.size_wh != answers.size_wh:
        raise ModelError(f"--size {answers.size_wh} is not the size of the file, {facts.size_wh}; leave it out")
    return facts.size_wh or answers.size_wh


def _questions(facts: FileFacts, answers: Answers, found: HeadGuess, size_wh: tuple[int, int] | None) -> list[Question]:
    """What is still open."""
    questions: list[Question] = []
    if found.question and not _answered(found, answers):
        questions.append(Question(found.example.split(" ", maxsplit=1)[0], found.question, found.example))
    if found.task in {"detector", "classifier"} and not answers.labels:
        classes = "classes" if found.classes is None else f"{found.classes} classes"
        meaning = f"the names of its {classes} in order: a file with one a line, or the words with commas between"
        questions.append(Question("--labels", meaning, "--labels labels.txt"))
    return questions + _picture_questions(facts, answers, found, size_wh)


def _answered(found: HeadGuess, answers: Answers) -> bool:
    """Whether a person has said what the outputs leave open."""
    if found.example.startswith("--head"):
        return answers.head is not None
    if found.example.startswith("--set"):
        words = re.findall(r"--set (\w+)=", found.example)
        return all(word in answers.settings for word in words)
    return False


def _picture_questions(
    facts: FileFacts, answers: Answers, found: HeadGuess, size_wh: tuple[int, int] | None
) -> list[Question]:
    """What no file says of how its pictures are made."""
    questions = []
    yolox = "yolox" in {answers.head, found.example.removeprefix("--head ")}
    if answers.resize is None:
        size = "its size" if size_wh is None else f"{size_wh[0]} x {size_wh[1]}"
        meaning = f"how a picture becomes {size}: {', '.join(RESIZES)} (fill cuts the longer side)"
        usual = "letterbox-top-left" if yolox else "letterbox" if found.task == "detector" else "fill"
        questions.append(Question("--resize", meaning, f"--resize {usual}"))
    if answers.order is None and facts.channels == 3:
        questions.append(
            Question("--order", "the order of the channels: rgb, bgr", f"--order {'bgr' if yolox else 'rgb'}")
        )
    values = answers.scale is not None or answers.mean or answers.std
    if facts.inputs[0].dtype in {"float32", "float16"} and not values:
        meaning = "its values: --scale 1 for 0..255, --scale 1/255 for 0..1; --mean and --std are applied after that"
        questions.append(Question("--scale", meaning, f"--scale {'1' if yolox else '1/255'}"))
    return questions


def _ask(model: Path, questions: Sequence[Question], said: Sequence[str]) -> str:
    """One message with all that is open, and a command line that answers it."""
    wide = max(len(question.option) for question in questions)
    lines = [f"  {question.option:<{wide}}  {question.meaning}" for question in questions]
    answered = " ".join(question.example for question in questions)
    command = f"imagelake models add {shlex.join(said)} {answered}"
    return (
        f"{model.name} does not say all that is needed. Please add:\n"
        + "\n".join(lines)
        + f"\nFor example, with what is true of this model:\n  {command}"
    )


def _transforms(facts: FileFacts, answers: Answers, size_wh: tuple[int, int]) -> list[dict[str, Any]]:
    """From an upright RGB picture to the first input."""
    size = list(size_wh)
    order = answers.order or ("gray" if facts.channels == 1 else "rgb")
    steps: list[dict[str, Any]] = []
    if answers.resize in {"letterbox", "letterbox-top-left"}:
        place = "top-left" if answers.resize == "letterbox-top-left" else "center"
        steps.append({"letterbox": {"size_wh": size, "color": answers.fill, "place": place}})
    else:
        steps.append({"resize": {"size_wh": size, "how": answers.resize or "exact"}})
    if order != "rgb":
        steps.append({"order": order})
    if answers.scale not in {None, 1.0}:
        steps.append({"scale": answers.scale})
    if answers.mean or answers.std:
        steps.append({"normalize": {"mean": _one_or_list(answers.mean, 0.0), "std": _one_or_list(answers.std, 1.0)}})
    if facts.channels_first:
        steps.append({"layout": "chw"})
    dtype = facts.inputs[0].dtype
    if dtype not in NUMBERS:
        raise ModelError(f"the input takes {dtype}, which no picture becomes; use one with {', '.join(NUMBERS)}")
    return [*steps, {"dtype": dtype}]


def _one_or_list(numbers: tuple[float, ...], default: float) -> float | list[float]:
    if not numbers:
        return default
    return numbers[0] if len(numbers) == 1 else list(numbers)


def _head(found: HeadGuess, answers: Answers) -> dict[str, Any]:
    """What was guessed, changed by what a person says."""
    head = dict(found.head)
    if answers.head is not None and answers.head != head.get("kind"):
        known = SETTINGS.get(answers.head, {})
        head = {"kind": answers.head} | {key: value for key, value in head.items() if key in known}
    return head | dict(answers.settings)


def _name_of(model: Path) -> str:
    """A name for a model from the name of its file."""
    return re.sub(r"[^a-z0-9.]+", "-", model.stem.lower()).strip("-.")[:64] or "model"
