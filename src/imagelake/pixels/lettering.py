"""What Pillow's built-in font can draw."""

from __future__ import annotations

import unicodedata


def spell(text: str) -> str:
    """Return text on one line with the letters that the built-in font can draw: accents taken off where that helps."""
    return " ".join("".join(map(_spell_letter, text)).split())


def _spell_letter(letter: str) -> str:
    """Return a letter without its accents if that makes it ASCII; `?` for what is no letter in any script."""
    if letter.isascii() and (letter.isprintable() or letter.isspace()):
        return letter
    if unicodedata.category(letter) in {"Cc", "Cs"}:  # control characters, and bytes of a name that are no text
        return "?"
    plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    return plain if plain.isascii() else letter
