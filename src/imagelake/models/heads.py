"""The heads that a manifest may name, and the settings of each: what becomes of the numbers that a model gives."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from imagelake.errors import ModelError

# Raise it when a head gives other numbers than before for the same outputs of a model.
HEADS_VERSION = 1

# The settings of the head "boxes" that name outputs.
BOXES_OUTPUTS = ("boxes", "scores", "classes", "count")

DETECTOR_KINDS = ("ssd", "yolox", "yolov5", "yolov8", "boxes")
TASKS = ("classifier", "embedder", "detector", "coder", "tensor")


@dataclass(frozen=True)
class Setting:
    """One setting of a head.

    Attributes:
        default: what holds where the manifest does not say; its type is the type of the setting.
        allowed: the values that a word may have; empty for any.
        low: the least a number may be, or each number of a list, which then is not empty.
        high: the most that it may be.
    """

    default: Any
    allowed: tuple[str, ...] = ()
    low: float = float("-inf")
    high: float = float("inf")


_DETECTOR = {
    "score_threshold": Setting(0.3, low=0, high=1),
    "iou_threshold": Setting(0.45, low=0, high=1),
    "limit": Setting(100, low=1),
    "wanted": Setting(()),
    "first_label": Setting(0, low=-1_000_000, high=1_000_000),
    "nms": Setting(default=True),
}
_GRID = {"strides": Setting((8, 16, 32), low=1, high=32_766)}
_LOGITS = {"activation": Setting("none", ("none", "sigmoid"))}

SETTINGS: Mapping[str, Mapping[str, Setting]] = MappingProxyType(
    {
        "classifier": {
            "activation": Setting("softmax", ("softmax", "sigmoid", "none")),
            "top_k": Setting(5, low=1),
        },
        "embedder": {
            "pooling": Setting("none", ("avg", "max", "cls", "none")),
            "layout": Setting("auto", ("auto", "nchw", "nhwc", "tokens")),
            "metric": Setting("cosine", ("cosine", "l2")),
            "skip_tokens": Setting(0, low=0),
        },
        # DetectionOutput counts the background as label 0, and has done its own suppression.
        "ssd": _DETECTOR | {"first_label": Setting(1), "nms": Setting(default=False)},
        "yolox": _DETECTOR | _GRID | _LOGITS,
        "yolov5": _DETECTOR | _LOGITS,
        "yolov8": _DETECTOR | _LOGITS,
        "boxes": _DETECTOR
        | _LOGITS
        | {
            "boxes": Setting(""),
            "scores": Setting(""),
            "classes": Setting(""),
            "count": Setting(""),
            "format": Setting("xyxy", ("xyxy", "yxyx", "xywh", "cxcywh")),
            "normalized": Setting(default=False),
        },
    }
)
"""The settings of each kind of head. What each means stands in docs/how-to/models.md."""

KINDS_OF_TASK: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"classifier": ("classifier",), "embedder": ("embedder",), "detector": DETECTOR_KINDS}
)


def complete_head(task: str, head: Mapping[str, Any]) -> dict[str, Any]:
    """Check the head of a manifest and fill in what it leaves out.

    Args:
        task: one of `TASKS`. The heads of `"coder"` and `"tensor"` belong to whoever reads them: no key is refused.
        head: `"kind"` and its settings, as JSON has them.

    Raises:
        ModelError: the kind does not fit the task, a setting is not known, or its value is not allowed.
    """
    if task not in KINDS_OF_TASK:
        return dict(head)
    kinds = KINDS_OF_TASK[task]
    kind = head.get("kind", kinds[0] if len(kinds) == 1 else None)
    if kind not in kinds:
        raise ModelError(f"head {kind!r} does not fit a {task}; use one of {', '.join(kinds)}")
    settings = SETTINGS[kind]
    refuse_unknown(f"settings of the head {kind}", [key for key in head if key != "kind"], list(settings))
    completed = {name: _checked(kind, name, head.get(name, s.default), s) for name, s in settings.items()}
    if kind == "boxes" and not (completed["boxes"] and completed["scores"]):
        raise ModelError("the head boxes needs the names of two outputs; give its settings boxes and scores")
    return {"kind": kind} | completed


def _checked(kind: str, name: str, value: Any, setting: Setting) -> Any:
    """One value of a setting, in the type of its default; lists become tuples."""
    where = f"setting {name} of the head {kind}"
    default = setting.default
    if isinstance(default, tuple):
        member = int if default else str
        if not isinstance(value, list | tuple) or any(type(v) is not member for v in value):
            raise ModelError(f"{where} is {value!r}; give a list of {'numbers' if member is int else 'words'}")
        if member is int and not (value and all(setting.low <= v <= setting.high for v in value)):
            raise ModelError(f"{where} is {value!r}; give one number or more between {setting.low} and {setting.high}")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ModelError(f"{where} is {value!r}; give a {type(default).__name__} such as {default!r}")
    if setting.allowed and value not in setting.allowed:
        raise ModelError(f"{where} is {value!r}; use one of {', '.join(setting.allowed)}")
    if isinstance(value, int | float) and not setting.low <= value <= setting.high:
        raise ModelError(f"{where} is {value!r}; give a number between {setting.low} and {setting.high}")
    return value


def refuse_unknown(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that are not known, with the nearest that are.

    Raises:
        ModelError: some of `given` are not among `known`.
    """
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    nearest = [name for key in unknown for name in difflib.get_close_matches(key, known, n=2, cutoff=0.5)]
    hint = f"; the nearest are {', '.join(dict.fromkeys(nearest))}" if nearest else ""
    raise ModelError(f"{what} {', '.join(map(repr, unknown))} are not known{hint}; allowed are {', '.join(known)}")
