"""Write the table of docs/how-to/transforms.md from the transforms themselves.

    python scripts/transforms_table.py

`tests/pixels/test_chain.py` fails when the page is not what this makes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from imagelake.pixels.chain import names, transform_class

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "transforms.md"

GROUPS = {
    "Size and place": "geometry cropping turning",
    "Light and color": "photometric",
    "Values and form": "normalization",
    "Chance": "sampler",
}


def page() -> str:
    """The whole page, its tables made anew."""
    start, _, rest = PAGE.read_text().partition("<!-- tables -->\n")
    _, _, end = rest.partition("<!-- end of the tables -->\n")
    return f"{start}<!-- tables -->\n{tables()}\n<!-- end of the tables -->\n{end}"


def tables() -> str:
    """One table for each group."""
    parts = []
    for group, modules in GROUPS.items():
        inside = [name for name in names() if transform_class(name).__module__.rsplit(".", 1)[1] in modules.split()]
        rows = [_row(name) for name in inside]
        parts.append(f"\n### {group}\n\n| transform | settings | what it does |\n|---|---|---|\n" + "\n".join(rows))
    return "\n".join(parts)


def _row(name: str) -> str:
    kind: Any = transform_class(name)
    settings = []
    for each in dataclasses.fields(kind):
        if each.name == "folder":
            continue
        word = f"**`{each.name}`**" if each.name == getattr(kind, "shorthand", None) else f"`{each.name}`"
        settings.append(word if each.default is dataclasses.MISSING else f"{word} = {_shown(each.default)}")
    text = re.sub(r"\s+", " ", kind.__doc__.strip()).replace("|", "\\|")
    return f"| `{name}` | {', '.join(settings)} | {text} |"


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    PAGE.write_text(page())
