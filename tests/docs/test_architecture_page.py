import re
import runpy

from places import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_rooms_are_those_of_the_test():
    """Line by line, the table says what `LINES` of tests/test_architecture.py says."""
    lines = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))["LINES"]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(len(lines)))
    assert [set(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows] == lines


def test_every_file_that_is_named_exists():
    """From `src/imagelake/`, the folder that the paragraph is about, or the top."""
    package = ROOT / "src" / "imagelake"
    homes = [ROOT, package, package / "pixels"]
    named = set(re.findall(r"`([\w/]+\.py|[\w/]+/)`", PAGE))
    assert len(named) > 30
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []
