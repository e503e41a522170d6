"""The page for those who use a screen reader or a keyboard: what the checker axe finds."""

import json
from pathlib import Path

import axe_playwright_python
import pytest

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
ADDRESSES = {  # of each view, once it shows something
    "browse": ("?view=browse", ".view-browse .tile[data-id]"),
    "search": ("?view=search", ".view-search:not([hidden])"),
    "found": ("?view=search&like={id}", ".search-results .tile"),
    "picture": ("?view=picture&id={id}", ".view-picture img"),
    "map": ("?view=map", ".view-map canvas"),
    "duplicates": ("?view=duplicates", ".view-duplicates img"),
    "atlas": ("?view=atlas", ".view-atlas canvas"),
    "runs": ("?view=runs", ".view-runs table"),
}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS = {
    "desk, light": {"color_scheme": "light"},
    "phone, dark": {"color_scheme": "dark"} | PHONE,
}
SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(open_page, site, look):
    """No view, at a desk or on a phone, in light or dark, has what keeps somebody out, by the rules of axe."""
    page = open_page(site.address, bypass_csp=True, **LOOKS[look])  # the checker is a script of another house
    page.wait_for_selector(".view-browse .tile[data-id]")
    known = page.locator(".view-browse .tile[data-id]").first.get_attribute("data-id")
    found = {}
    for name, (address, sign) in ADDRESSES.items():
        page.goto(f"{site.address}/{address.format(id=known)}")
        page.wait_for_selector(sign, timeout=20_000)
        found |= {f"{name}: {rule}": where for rule, where in serious(page).items()}
    assert found == {}, json.dumps(found, indent=1)


def test_sheets_have_nothing_serious(page, open_page, site):
    """Neither has the help, nor the settings."""
    page = open_page(site.address, bypass_csp=True)
    page.wait_for_selector("nav a[aria-current=page]")
    for name in ("Keys and help", "Settings"):
        page.get_by_label(name).first.click()
        page.wait_for_selector("dialog.sheet[open]")
        assert serious(page) == {}
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog.sheet", state="detached")


def serious(page):
    """The serious findings: the rule, and the first places."""
    page.add_script_tag(path=AXE)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return {
        each["id"]: [
            each["impact"],
            *(node["html"][:160] + " " + node["failureSummary"][-160:] for node in each["nodes"][:3]),
        ]
        for each in result["violations"]
        if each["impact"] in SERIOUS
    }
