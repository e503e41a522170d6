import re

import pytest

from places import ROOT

README = ROOT / "README.md"


def is_make(block):
    return block.language == "bash" and block.text.startswith("make ")


def test_the_readme_runs(pictures, workbench, run_page):
    """The Python lines and every `imagelake` line do what they say, in a shell and a folder of pictures."""
    workbench.real_shell = True
    assert run_page(README, skip=is_make) == 2


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/tutorial.md"])
def test_every_make_line_names_a_target(page):
    """Of the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_the_readme_begins_with_what_it_is():
    """A title, three lines, a picture."""
    lines = README.read_text().splitlines()
    assert lines[0] == "# imagelake"
    assert all(lines[2:5])
    assert lines.index("") == 1
    assert "<img" in "".join(lines[5:12])


def test_the_changelog_has_this_version():
    """And the README's word on versions of Python is that of the package."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"[{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    for classifier in project["classifiers"]:
        version = re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier)
        assert version is None or version[1] in README.read_text()
