"""A sheet of pictures that people look at: each row a query and what was found for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imagelake.pixels.lettering import spell

_SCALE = 2  # everything is drawn at twice its size, so that it is crisp on dense screens
_CELL, _MARGIN, _GAP, _FRAME, _ROW_GAP, _QUERY_GAP = 224, 28, 14, 3, 22, 30
_TITLE_SIZE, _SUBTITLE_SIZE, _HEADING_SIZE = 15, 12, 22
_CAPTION = 46
_GROUND, _MAT, _LINE = (255, 255, 255), (244, 245, 247), (225, 228, 233)
_ACCENT, _INK, _FAINT = (214, 69, 32), (28, 32, 38), (118, 125, 136)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One picture of a sheet: an array [h, w, 3], uint8, RGB, a bold line and a faint one beneath it."""

    image_rgb: NDArray[np.uint8]
    title: str = ""
    subtitle: str = ""


def draw_grid(rows: Sequence[Sequence[Cell]], heading: str | None = None) -> NDArray[np.uint8]:
    """Draw rows of a query (the first cell, framed in an accent color) and its matches on white.

    Rows may differ in length; without any cell, a small sheet says that nothing was found. Pictures are fitted into
    squares of 448 pixels (224 points at two pixels a point), never cropped or stretched. Text that does not fit is
    shortened in the middle, so that a file name keeps its start and its ending. Letters lose their accents and other
    scripts show as boxes, as far as Pillow's built-in font has no shape for them.

    Returns:
        The sheet [h, w, 3], uint8, RGB.
    """
    rows = [row for row in rows if row]
    columns = max((len(row) for row in rows), default=2)
    top = _MARGIN + (_HEADING_SIZE + 24 if heading else 0)
    width = 2 * _MARGIN + columns * _CELL + (columns - 1) * _GAP + (_QUERY_GAP - _GAP if columns > 1 else 0)
    bottom = top + (len(rows) * (_CELL + _CAPTION + _ROW_GAP) - _ROW_GAP if rows else _TITLE_SIZE + _MARGIN // 2)
    sheet = Image.new("RGB", (width * _SCALE, (bottom + _MARGIN // 2) * _SCALE), _GROUND)
    pen = ImageDraw.Draw(sheet)
    left = _MARGIN * _SCALE
    if heading:
        text = _shorten(heading, _font(_HEADING_SIZE), (width - 2 * _MARGIN) * _SCALE)
        pen.text((left, _MARGIN * _SCALE), text, fill=_INK, font=_font(_HEADING_SIZE), anchor="lt")
    if not rows:
        pen.text((left, top * _SCALE), "Nothing was found.", fill=_FAINT, font=_font(_TITLE_SIZE), anchor="lt")
    for row_index, row in enumerate(rows):
        y = top + row_index * (_CELL + _CAPTION + _ROW_GAP)
        for column, cell in enumerate(row):
            x = _MARGIN + column * (_CELL + _GAP) + (_QUERY_GAP - _GAP if column else 0)
            _draw_cell(sheet, pen, cell, (x, y), is_query=column == 0)
    return np.array(sheet)


def save_png(image_rgb: NDArray[np.uint8], path: str | Path) -> None:
    """Write an array [h, w, 3], uint8, RGB as a PNG file.

    Raises:
        OSError: The file cannot be written.
    """
    Image.fromarray(image_rgb).save(path, "PNG")


def _draw_cell(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, at_xy: tuple[int, int], *, is_query: bool
) -> None:
    """Draw one cell whose top left corner is `at_xy`, in points."""
    x, y, side = at_xy[0] * _SCALE, at_xy[1] * _SCALE, _CELL * _SCALE
    radius = 6 * _SCALE
    tile = Image.new("RGB", (side, side), _MAT)
    fitted = _fit(cell.image_rgb, side)
    tile.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    sheet.paste(tile, (x, y), _rounded_mask(side, radius))
    frame = _FRAME * _SCALE if is_query else 2
    reach = frame + 2 * _SCALE if is_query else 0  # the query's frame stands off, so it covers nothing of the picture
    box = (x - reach, y - reach, x + side - 1 + reach, y + side - 1 + reach)
    pen.rounded_rectangle(box, radius + reach, outline=_ACCENT if is_query else _LINE, width=frame)
    title_font, subtitle_font = _font(_TITLE_SIZE), _font(_SUBTITLE_SIZE)
    baseline = y + side + 23 * _SCALE
    title = _shorten(cell.title, title_font, side)
    # The built-in font has one weight: a stroke of its own color makes it bolder.
    color = _ACCENT if is_query else _INK
    pen.text((x, baseline), title, fill=color, font=title_font, anchor="ls", stroke_width=0.6, stroke_fill=color)
    subtitle = _shorten(cell.subtitle, subtitle_font, side)
    pen.text((x, baseline + 18 * _SCALE), subtitle, fill=_FAINT, font=subtitle_font, anchor="ls")


def _fit(image_rgb: NDArray[np.uint8], side: int) -> Image.Image:
    """Scale a picture so that it fills a square in one direction; a tiny one is enlarged without blur."""
    image = Image.fromarray(np.ascontiguousarray(image_rgb))
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if factor > 8:
        return image.resize(size, Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


@cache
def _rounded_mask(side: int, radius: int) -> Image.Image:
    """Return a mask of a square with round corners, smoothed by drawing it four times as large."""
    large = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius * 4, fill=255)
    return large.resize((side, side), Image.Resampling.LANCZOS)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font at a size in points."""
    return ImageFont.load_default(size=size * _SCALE)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return text on one line that can be drawn, its middle left out where it is wider than `width` pixels."""
    text = spell(text)
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the largest number of kept characters that fits
        middle = (low + high + 1) // 2
        if font.getlength(_cut(text, middle)) <= width:
            low = middle
        else:
            high = middle - 1
    return _cut(text, low)


def _cut(text: str, kept: int) -> str:
    """Keep the first and the last characters, `kept` in all, around an ellipsis."""
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"
