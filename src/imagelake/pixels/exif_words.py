"""What people wrote into the EXIF block of a picture, and what Windows writes there for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from imagelake.pixels.tiff_directory import Value
from imagelake.pixels.words import NO_WORDS, Words, clean_keywords, clean_text, read_percent, read_rating

_DESCRIPTION, _ARTIST, _COPYRIGHT = 0x010E, 0x013B, 0x8298
_RATING, _RATING_PERCENT = 0x4746, 0x4749
_XP_TITLE, _XP_COMMENT, _XP_AUTHOR, _XP_KEYWORDS, _XP_SUBJECT = 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F
_WRITTEN = frozenset({_DESCRIPTION, _ARTIST, _COPYRIGHT, _RATING, _RATING_PERCENT, *range(_XP_TITLE, _XP_SUBJECT + 1)})

# What cameras write as the description of every picture: nobody wrote that about this one.
_BOILERPLATE = re.compile(r"(\w+ ){0,2}digital (still )?camera|sony dsc|exif[_ ]jpeg([_ ]picture)?", re.IGNORECASE)


def find_words(tags: Mapping[int, Value]) -> Words:
    """Find the words in the tags (IFD0 and Exif together).

    ImageDescription comes before the comment and the subject of Windows; what a camera writes there by itself, such as
    "OLYMPUS DIGITAL CAMERA", is no caption.
    """
    if _WRITTEN.isdisjoint(tags):
        return NO_WORDS
    description = clean_text(tags.get(_DESCRIPTION))
    if description is not None and _BOILERPLATE.fullmatch(description):
        description = None
    rating = read_rating(tags.get(_RATING))
    return Words(
        title=_wide_text(tags.get(_XP_TITLE)),
        caption=description or _wide_text(tags.get(_XP_COMMENT)) or _wide_text(tags.get(_XP_SUBJECT)),
        keywords=clean_keywords((_wide_text(tags.get(_XP_KEYWORDS)) or "").split(";")),
        rating=read_percent(tags.get(_RATING_PERCENT)) if rating is None else rating,
        creator=clean_text(tags.get(_ARTIST)) or _wide_text(tags.get(_XP_AUTHOR)),
        copyright=clean_text(tags.get(_COPYRIGHT)),
    )


def _wide_text(value: Value) -> str | None:
    """Read a text of Windows, UTF-16 up to its first NUL."""
    if not isinstance(value, bytes):
        return None
    return clean_text(value.decode("utf-16-le", errors="replace").split("\x00", 1)[0])
