"""How a lake and the matches of a search show themselves in a notebook: facts and small pictures, in one piece of HTML.

Pictures are `data:` URIs of new, small JPEGs; nothing is fetched. See `imagelake.run.report_html` for texts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagelake.errors import ImagelakeError
from imagelake.files import display_name
from imagelake.lake.info import LakeInfo, describe_lake
from imagelake.lake.sql import query as ask
from imagelake.lake.tables import Tables
from imagelake.pixels.decode import decode_rgb
from imagelake.pixels.draw import draw_boxes
from imagelake.pixels.thumbnail import encode_jpeg, thumbnail
from imagelake.run.report_html import facts, size, text
from imagelake.run.search import Match

SIDE = 128
"""Pixels of a small picture's longer side: 3 to 6 kB as JPEG."""

MOST_PICTURES = 24
_STRIP = 7
_QUALITY = 78
_BOX = "display:inline-block;vertical-align:top;margin:.2em .6em .4em 0;text-align:center;font-size:90%"
_STAND = "display:flex;align-items:flex-end;justify-content:center"
_EMPTY = "background:rgba(128,128,128,.2);border-radius:4px"


class Matches(list[Match]):
    """The matches of a search: a list in all ways, which shows the pictures in a notebook.

    It is equal to a list of the same matches; a copy or a pickle of it is a plain list.

    Args:
        matches: the nearest first.
        tables: the lake that they are of.
        query: the bytes of the picture that was searched, or the id of an image of the lake.
    """

    def __init__(self, matches: Iterable[Match], tables: Tables, query: bytes | str) -> None:
        super().__init__(matches)
        self._tables = tables
        self._query = query

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)

    def _repr_html_(self) -> str:
        """The query and its matches, each with its distance and name."""
        return matches_html(self, self._tables, self._query)


def matches_html(matches: Sequence[Match], tables: Tables, query: bytes | str) -> str:
    """A row of small pictures: the query, then the matches with distance and name, regions drawn; bounded in number."""
    shown = matches[:MOST_PICTURES]
    ids = [match.id for match in shown] + ([query] if isinstance(query, str) else [])
    stored = _thumbnails(tables, ids)
    asked = stored.get(query) if isinstance(query, str) else query
    tiles = [_tile(_small(asked), "query", "")]
    for match in shown:
        picture = _small(stored.get(match.id), match.box_xyxy)
        name = display_name(match.uri) if match.label is None else f"{match.label} in {display_name(match.uri)}"
        tiles.append(_tile(picture, f"{match.distance:.4f}", name))
    more = len(matches) - len(shown)
    rest = f'<div style="opacity:.75">and {more:,} more</div>' if more else ""
    title = f"{len(matches):,} {'match' if len(matches) == 1 else 'matches'}, the nearest first"
    return facts(title, {}, f"<div>{''.join(tiles)}</div>", rest)


def lake_html(tables: Tables) -> str:
    """What is in a lake, in a few lines, and the images that came last; a lake that cannot be read says why."""
    try:
        return facts(f"Lake {tables.root}", _lines(describe_lake(tables)), _newest(tables))
    except ImagelakeError as error:
        return facts(f"Lake {tables.root}", {"cannot be read": error})


def _lines(info: LakeInfo) -> dict[str, object]:
    """Without what is not there."""
    days = [moment[:10] for moment in (info.taken_from, info.taken_to) if moment]
    rows: dict[str, object] = {
        "images": f"{info.images:,} of {info.uris:,} files, {size(info.image_bytes)}",
        "formats": {name: f"{count:,}" for name, count in info.formats.items()},
        "taken": " to ".join(dict.fromkeys(days)),
        "with a position": info.with_gps,
        "regions": info.regions,
        "predictions": info.predictions,
        "rejected": info.rejections,
    }
    rows = {name: value for name, value in rows.items() if value}
    for each in info.embedding_sets:
        rows[f"vectors {each.name}"] = f"{each.vectors:,} of {each.dimensions:,} numbers ({each.of}, {each.metric})"
    return rows


def _newest(tables: Tables) -> str:
    chosen = ask(tables, f"SELECT id, uris[1] AS uri FROM images ORDER BY added_at DESC, id LIMIT {_STRIP}")  # noqa: S608
    if not chosen.num_rows:
        return '<div style="opacity:.75">No image yet: lake.ingest("photos/") brings some in.</div>'
    rows = chosen.to_pylist()
    stored = _thumbnails(tables, [row["id"] for row in rows])
    tiles = [_tile(_small(stored.get(row["id"])), "", display_name(row["uri"] or "")) for row in rows]
    return f"<div>{''.join(tiles)}</div>"


def _thumbnails(tables: Tables, ids: Sequence[str]) -> dict[str, bytes]:
    """The small JPEGs of those images that are in the lake; none where it cannot be read."""
    try:
        found = tables.images.rows("id", list(dict.fromkeys(ids)), ["id", "thumbnail"]).to_pylist()
    except ImagelakeError:
        return {}
    return {row["id"]: row["thumbnail"] for row in found if row["thumbnail"]}


def _small(data: bytes | None, box_xyxy: tuple[float, float, float, float] | None = None) -> NDArray[np.uint8] | None:
    """The picture as it is shown; None where it cannot be decoded or is gone."""
    if not data:
        return None
    try:
        image = thumbnail(decode_rgb(data, min_side=SIDE), SIDE)
    except ImagelakeError:
        return None
    return image if box_xyxy is None else draw_boxes(image, np.array([box_xyxy], np.float32), [""])


def _tile(image: NDArray[np.uint8] | None, line: str, name: str) -> str:
    """A small picture with a line of its own and a name below."""
    if image is None:
        shown = f'<div style="width:{SIDE}px;height:{SIDE}px;{_EMPTY}" title="not in the lake, or no picture"></div>'
    else:
        height, width = image.shape[:2]
        data = base64.b64encode(encode_jpeg(image, _QUALITY)).decode()
        shown = (
            f'<img src="data:image/jpeg;base64,{data}" alt="{text(name or line)}" title="{text(name)}" width="{width}" '
            f'height="{height}" style="border-radius:4px;max-width:none;margin:0">'
        )
        shown = f'<div style="{_STAND};height:{SIDE}px">{shown}</div>'
    cut = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    below = f"<div>{text(line)}</div>" if line else ""
    below += f'<div style="opacity:.75;{cut}">{text(name)}</div>' if name else ""
    return f'<div style="{_BOX};width:{SIDE}px">{shown}{below}</div>'
