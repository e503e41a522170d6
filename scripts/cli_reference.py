"""Write docs/reference/cli.md: the help page of every verb, as a user sees it.

    python scripts/cli_reference.py

`tests/docs/test_cli_reference.py` fails when the page is not what this makes.
"""

from __future__ import annotations

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


def page() -> str:
    """The whole page."""
    verbs = list(getattr(get_command(app), "commands"))  # noqa: B009  (a group has commands; its type does not say so)
    parts = [INTRODUCTION, f"## imagelake\n\n```text\n{help_page()}\n```\n"]
    parts += [f"## imagelake {verb}\n\n```text\n{help_page(verb)}\n```\n" for verb in verbs]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
