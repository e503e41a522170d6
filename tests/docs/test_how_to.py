import pytest

from places import ROOT

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_page_runs(page, lake, run_page):
    """Every block of a how-to page does what the page says, on a lake of six pictures."""
    assert run_page(page) > 1


def test_the_home_page_runs(pictures, run_page):
    """The five lines on the first page work."""
    assert run_page(ROOT / "docs" / "index.md") == 1
