import re

import pytest

from places import ROOT

# Codes take more vectors to learn from than six pictures give: tests/cli/test_codes.py runs what that page shows.
PAGES = [page for page in sorted((ROOT / "docs" / "how-to").glob("*.md")) if page.stem != "codes"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_page_runs(page, lake, run_page):
    """Every block of a how-to page does what the page says, on a lake of six pictures."""
    assert run_page(page) > 1


def test_the_home_page_runs(pictures, run_page):
    """The five lines on the first page work."""
    assert run_page(ROOT / "docs" / "index.md") == 1


def test_every_reason_that_is_explained_is_one_that_is_given():
    """The table of rejections begins each row with words that the code really says."""
    table = (ROOT / "docs" / "how-to" / "ingest.md").read_text().split("| reason |")[1].split("\n\n")[0]
    reasons = [reason for row in table.splitlines()[2:] for reason in re.findall(r"`([^`]+)`", row.split("|")[1])]
    rooms = [ROOT / "src" / "imagelake" / room for room in ("pixels", "sources")]
    said = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    assert len(reasons) > 6
    for reason in reasons:
        words = "not a picture" if reason.startswith("this is") else re.split(r"[:(]|\.\.\.", reason)[0].strip()
        assert words in said, reason
