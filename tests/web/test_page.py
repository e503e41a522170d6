"""The page as a whole: who gets it, and what it never does."""

import urllib.request


def ask(address, accept):
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept": accept})) as answer:
        return answer.headers["content-type"], answer.read()


def test_browsers_get_the_page_and_programs_the_metadata(site):
    """`GET /` is the page for whoever accepts HTML by name, and GraphPipe's metadata for all others."""
    kind, body = ask(site.address, "text/html,application/xhtml+xml,*/*;q=0.8")
    assert kind.startswith("text/html")
    assert b"<!doctype html>" in body
    kind, body = ask(site.address, "*/*")
    assert kind == "application/json"
    assert b'"Inputs"' in body


def test_page_opens(page):
    """The page comes up with its views, without a word on the console, and asks no other host."""
    page.wait_for_selector("nav a[aria-current=page]")
    assert page.title() == "Browse · imagelake"
