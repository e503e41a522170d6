import importlib.util
import re
import subprocess
import sys

import pytest

from places import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages; a warning ends the build."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_builds_without_a_warning(site):
    """And has a page for each source."""
    sources = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in (ROOT / "docs").rglob("*.md")}
    assert sources <= {str(page.relative_to(site).with_suffix("")) for page in site.rglob("*.html")}


def test_it_fetches_nothing_from_elsewhere(site):
    """No font, script, style or picture of another host: the pages work without a network."""
    loading = re.compile(
        r"<(?:script|img|iframe)[^>]*?\ssrc=\"?(https?:|//)|<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*https?:"
    )
    assert [page.name for page in site.rglob("*.html") if loading.search(page.read_text())] == []


def test_every_public_name_is_documented(site):
    """The Python page has the docstrings, not only headings."""
    text = (site / "reference" / "python.html").read_text()
    for phrase in (
        "Bring pictures into the lake",
        "exact, ordered by (distance, id)",
        "found = added + known + rejected",
    ):
        assert phrase in text
