"""Write docs/reference/cli.md: the help page of every verb, as a user sees it.

    python scripts/cli_reference.py

`tests/docs/test_cli_reference.py` fails when the page is not what this makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from imagelake.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
COLUMNS = "88"

INTRODUCTION = """\
# Command line

These are the help pages, word for word; `python scripts/cli_reference.py` writes them here. Every verb takes `--json`
and then prints one JSON value on stdout; progress and notes go to stderr. What the exit codes mean is told in
[Errors and exit codes](errors.md#exit-codes).
"""


def help_page(*words: str) -> str:
    """What `imagelake WORDS --help` prints, on a terminal of `COLUMNS` columns."""
    environment = {"COLUMNS": COLUMNS, "TERM": "dumb", "NO_COLOR": "1"}  # the same page wherever it is made
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="imagelake", env=environment)
    if done.exit_code:
        raise RuntimeError(f"imagelake {' '.join(words)} --help failed:\n{done.output}")
    return "\n".join(line.rstrip() for line in done.output.strip("\n").splitlines())


def verbs(command: object, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every verb; a group of verbs is left out for those in it."""
    for word, each in getattr(command, "commands", {}).items():
        yield from verbs(each, *before, word) if hasattr(each, "commands") else [(*before, word)]


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"## imagelake\n\n```text\n{help_page()}\n```\n"]
    pages = {" ".join(words): help_page(*words) for words in verbs(get_command(app))}
    parts += [f"## imagelake {verb}\n\n```text\n{text}\n```\n" for verb, text in pages.items()]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
