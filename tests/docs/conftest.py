"""Runs the code blocks of a page of the documentation, in order, and compares what they print with what it shows."""

import contextlib
import io
import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import imagelake
from imagelake.cli import main as cli
from pictures import encode, make_image

_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_SHELL = {"|", "&&", ";", ">", "<"}
_ALIKE = [  # what may differ between two machines
    (re.compile(r"file://\S*/"), "file:///"),
    (re.compile(r"(efficientnet-lite0)-[0-9a-f]{12}"), r"\1-0"),
    (re.compile(r"\b(int8|fp32)\b"), "fp32"),
    (re.compile(r"\d[\d,.]*"), "0"),
    (re.compile(r"\s+"), " "),
]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it shows, its text, the line where it stands."""

    language: str
    title: str | None
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(m[1], m[2], m[3], text[: m.start()].count("\n") + 1) for m in _FENCE.finditer(text)]


def normal(line: str) -> str:
    """A line of output without what may differ: numbers, folders, spaces."""
    for pattern, stand_in in _ALIKE:
        line = pattern.sub(stand_in, line)
    return line.strip()


@dataclass
class Workbench:
    """A folder in which the blocks of one page run, sharing their Python names."""

    folder: Path
    real_shell: bool = False
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})

    def run(self, block: Block) -> str:
        """What the block prints, notes included."""
        text = block.text.replace("NAME", self._set_name()) if "NAME" in block.text else block.text
        return {"python": self._python, "bash": self._bash, "sql": self._sql}[block.language](text)

    def _set_name(self) -> str:
        return imagelake.open("photos.lake").info().embedding_sets[0].name

    def _python(self, text: str) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, "block", "exec", dont_inherit=True), self.names)
        return out.getvalue()

    def _bash(self, text: str) -> str:
        """Lines that are nothing but a verb run in this process, which spares its start; all else runs in a shell."""
        commands = [shlex.split(line) for line in text.splitlines()]
        if self.real_shell or not all(words[0] == "imagelake" and not _SHELL & set(words) for words in commands):
            return self._shell(text)
        return "".join(self._verb(words) for words in commands)

    def _verb(self, words: list[str]) -> str:
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            patch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as end:
                cli.run()
        assert not end.value.code, out.getvalue()
        return out.getvalue()

    def _shell(self, text: str) -> str:
        command = self.folder / ".bin" / "imagelake"
        if not command.exists():
            command.parent.mkdir()
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imagelake "$@"\n')
            command.chmod(command.stat().st_mode | stat.S_IXUSR)
        environment = os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _sql(self, text: str) -> str:
        return str(imagelake.open("photos.lake").sql(text).to_pylist())


@pytest.fixture
def workbench(tmp_path, monkeypatch):
    """An empty folder to run blocks in."""
    monkeypatch.chdir(tmp_path)
    return Workbench(tmp_path)


@pytest.fixture
def run_page(workbench):
    """Run every python, bash and sql block of a page, and write those with a title; a text block that follows shows
    what the last one printed.

    Each line of the text block must have been printed, up to numbers and folders; `...` stands for further lines.
    """

    def run(page, skip=None):
        printed, ran = None, 0
        for block in blocks_of(page):
            if skip is not None and skip(block):
                printed = None
            elif block.title is not None:
                (workbench.folder / block.title).write_text(block.text)
            elif block.language in {"python", "bash", "sql"}:
                try:
                    printed = workbench.run(block)
                except Exception as error:
                    error.add_note(f"{page}, line {block.line}")
                    raise
                ran += 1
            elif block.language == "text" and printed is not None:
                lines = {normal(line) for line in printed.splitlines()}
                for line in block.text.splitlines():
                    shown = normal(line)
                    assert shown in {"", "..."} or shown in lines, f"{page}, line {block.line}: {line!r}\n{printed}"
                printed = None
        return ran

    return run


@pytest.fixture
def pictures(tmp_path):
    """The folder `photos` with six pictures, and `query.jpg`, one of them in another size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.jpg").write_bytes(encode(make_image(seed), quality=90))
    (tmp_path / "query.jpg").write_bytes(encode(make_image(3, 200, 150)))
    return folder


@pytest.fixture
def lake(pictures, tmp_path):
    """The lake `photos.lake` of these pictures, with vectors."""
    opened = imagelake.open(tmp_path / "photos.lake", create=True)
    opened.ingest(pictures)
    opened.extract()
    return opened
