import re

import pytest

from places import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def anchors(page):
    """What can be linked to inside a page: its headings, as GitHub and MkDocs both name them."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every relative link, image and anchor of a page exists."""
    for found in _LINK.findall(_CODE.sub("", page.read_text())):
        target, _, anchor = (found[0] or found[1]).partition("#")
        if "://" in target:
            continue
        other = page if not target else (page.parent / target).resolve()
        assert other.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(other), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_addresses_are_secure(page):
    """Nothing leads to plain http but on the reader's own machine and network, whose names have no dots."""
    assert "http://" not in re.sub(r"http://(127\.0\.0\.1|[a-z-]+):\d+", "", page.read_text())


def test_pictures_are_small():
    """So that a page loads fast and the repository stays light."""
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 400_000, picture
