"""A real browser that looks at a real server of a small lake."""

import fcntl
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from web_site import build_lake, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [  # a browser that asks nobody for anything
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def built_lake(tmp_path_factory) -> Path:
    """The lake of `web_site`, made once for all processes of the tests; nobody may change it: see `own_lake`."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):
        shared = shared.parent
    with (shared / "page-lake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "page-lake" / "ready").exists():
            build_lake(shared / "page-lake")
            (shared / "page-lake" / "ready").touch()
    return shared / "page-lake" / "page.lake"


@pytest.fixture
def own_lake(built_lake, tmp_path) -> Path:
    """A copy of that lake, to change."""
    return Path(shutil.copytree(built_lake, tmp_path / "own.lake"))


@pytest.fixture(scope="session")
def site(built_lake):
    """A read-only server of that lake; `site.address`."""
    with served(built_lake) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    """Chromium, as the system has it. It ends with its file: while Playwright is there, its event loop runs in this
    thread, and tests of other files want loops of their own.
    """
    if CHROMIUM is None:
        pytest.skip("no browser: install the Debian package chromium, and these tests run")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """`open_page(address, **of the context)`: a page in a new window. At the end, nothing was said on the console,
    no script failed, and nothing was asked of another host.
    """
    contexts, faults = [], []

    def open_one(address: str, **options):
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | options
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        host = urlsplit(address).netloc
        page.on(
            "console",
            lambda said: (
                faults.append(f"console {said.type}: {said.text}") if said.type in {"error", "warning"} else None
            ),
        )
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on(
            "request",
            lambda asked: (
                faults.append(f"asked {asked.url}")
                if asked.url.startswith(("http", "ws")) and urlsplit(asked.url).netloc != host
                else None
            ),
        )
        page.faults = faults
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def page(open_page, site):
    """The page of `site` at a desk."""
    return open_page(site.address)
