"""Quality flags: words for what is wrong with a picture, each from one figure and a threshold that is explained.

How often each default is right and wrong was measured with `benchmarks/quality_flags.py`; the table is in
docs/how-to/quality.md.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagelake.errors import InputError
from imagelake.pixels.figures import Figures

NEW_COLUMNS = ("fineness", "luma_p95", "luma_range", "bright_share", "flat_share", "crisp_share")
"""The figures that only flags need; lakes of before flags have none."""

COLUMNS = ("width", "height", "std_r", "std_g", "std_b", *NEW_COLUMNS)
"""What flags are made from: columns of the images table."""

Columns = Mapping[str, Any]
"""`COLUMNS` by name: a number each, or a float64 array [n] each; NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a picture gets its flags. All are of 8-bit values, pixels or shares; see `FLAGS` for the sides."""

    blurred: float = 1.0
    """1 in 100 photos is below it, and 93 of their copies blurred by one pixel of the working size (256) are."""

    dark: float = 80.0
    """A photo at three tenths of its light values ends at 76; no well-lit one of 663 does. Lamps may be 5 % of it."""

    overexposed: float = 0.2
    """A fifth of the picture is burnt out: more than lamps, windows and clouds are in most photos."""

    low_contrast: float = 75.0
    """A photo that uses three tenths of the scale ends at 76; haze that leaves more can be mended."""

    tiny: float = 64.0
    """Models look at 224 pixels or more: such a picture would be enlarged more than three times."""

    extreme_aspect: float = 3.0
    """Panoramas are up to 3:1 and phones 21:9; beyond come banners, strips and scrolled pages, which models squeeze."""

    near_constant: float = 4.0
    """Grain and shading of a wall or a lens cap reach 3; the plainest of 751 photos is at 10."""

    screenshot: float = 0.06
    """Edges of photos run over pixels: none of 684 passes. Drawn ones jump out of an even color, also after JPEG."""

    screenshot_flat: float = 0.4
    """What is drawn has even ground; a photo in a thin frame has crisp edges too, but less of it."""


DEFAULTS = Thresholds()


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: `figure` in words, which side of the threshold is `below`, and what else must hold (`unless`)."""

    name: str
    figure: str
    below: bool
    unless: str = ""

    def rule(self, thresholds: Thresholds) -> str:
        """When a picture gets the flag, in words."""
        limit = f"{getattr(thresholds, self.name):g}"
        words = f"{self.figure} {'<' if self.below else '>'} {limit}"
        if self.name == "screenshot":
            words += f" and flat_share > {thresholds.screenshot_flat:g}"
        return words + (f", not {self.unless}" if self.unless else "")


_DRAWN = "screenshot"
FLAGS = (
    Flag("blurred", "fineness", below=True, unless="near_constant or screenshot"),
    Flag("dark", "luma_p95", below=True, unless=_DRAWN),
    Flag("overexposed", "bright_share", below=False, unless=_DRAWN),
    Flag("low_contrast", "luma_range", below=True, unless=_DRAWN),
    Flag("tiny", "shorter side", below=True),
    Flag("extreme_aspect", "longer / shorter side", below=False),
    Flag("near_constant", "greatest of std_r, std_g, std_b", below=True),
    Flag("screenshot", "crisp_share", below=False, unless="near_constant"),
)
"""All flags in the order in which they are listed. What is drawn has no exposure and no focus to be judged."""

NAMES = tuple(flag.name for flag in FLAGS)


def figures_of(columns: Columns) -> dict[str, Any]:
    """The figure of each flag by the flag's name: numbers, or arrays [n]."""
    width, height = columns["width"], columns["height"]
    # Python's own functions are many times as fast for one picture.
    least, most = (np.minimum, np.maximum) if isinstance(width, np.ndarray) else (min, max)
    return {
        "blurred": columns["fineness"],
        "dark": columns["luma_p95"],
        "overexposed": columns["bright_share"],
        "low_contrast": columns["luma_range"],
        "tiny": least(width, height),
        "extreme_aspect": most(width, height) / most(least(width, height), 1),
        "near_constant": most(most(columns["std_r"], columns["std_g"]), columns["std_b"]),
        "screenshot": columns["crisp_share"],
    }


def passes(columns: Columns, thresholds: Thresholds = DEFAULTS) -> dict[str, Any]:
    """Whether each flag holds, by the flag's name: booleans, or arrays [n] of bool. NaN is never flagged."""
    figures = figures_of(columns)
    held: dict[str, Any] = {}
    for flag in FLAGS:
        figure, limit = figures[flag.name], getattr(thresholds, flag.name)
        held[flag.name] = figure < limit if flag.below else figure > limit
    varied = held["near_constant"] ^ True
    held["screenshot"] &= (columns["flat_share"] > thresholds.screenshot_flat) & varied
    held["blurred"] &= varied
    photo = held["screenshot"] ^ True
    for name in ("blurred", "dark", "overexposed", "low_contrast"):
        held[name] &= photo
    return held


def flag_lists(columns: Columns, thresholds: Thresholds = DEFAULTS) -> list[list[str]]:
    """The flags of each of n pictures, in the order of `FLAGS`, from arrays [n]."""
    table = np.stack(list(passes(columns, thresholds).values()), axis=1)
    return [[NAMES[column] for column in np.flatnonzero(row)] if row.any() else [] for row in table]


def flags_of(figures: Figures, width: int, height: int, thresholds: Thresholds = DEFAULTS) -> list[str]:
    """The flags of one picture of `width` x `height` pixels, in the order of `FLAGS`."""
    values = dict(zip(("std_r", "std_g", "std_b"), figures.std_rgb, strict=True))
    values |= {name: getattr(figures, name) for name in NEW_COLUMNS}
    # As rounded in the lake, so that the flags are the same when they are made from there.
    stored = dict(zip(values, array("f", values.values()), strict=True))
    held = passes({"width": width, "height": height, **stored}, thresholds)
    return [name for name in NAMES if held[name]]


def thresholds_from(words: Iterable[str]) -> Thresholds:
    """The defaults with some changed by words such as `blurred=0.8`.

    Raises:
        InputError: a word is no NAME=NUMBER, or the name is no flag.
    """
    allowed = [field.name for field in dataclasses.fields(Thresholds)]
    changed: dict[str, float] = {}
    for word in words:
        name, separator, number = word.partition("=")
        if name.strip() not in allowed:
            raise InputError(f"--threshold {word!r} names no flag. There are: {', '.join(allowed)}.")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not separator or not math.isfinite(value) or value < 0:
            raise InputError(f"--threshold {word!r} has no number of 0 or more. Give it as {name.strip()}=NUMBER.")
        changed[name.strip()] = value
    return dataclasses.replace(DEFAULTS, **changed)
