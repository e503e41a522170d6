"""Where the page is told to be, and when a browser is started for it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from web_site import served

import imagelake
from imagelake.cli.page_opening import page_of


@pytest.mark.parametrize(
    ("listening", "page"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80/"),
        ("https://[::]:443", "https://[::1]:443/"),
        ("http://photos.example:8000", "http://photos.example:8000/"),
    ],
)
def test_address_can_be_visited(listening, page):
    """A server that listens everywhere is visited on this machine."""
    assert page_of(listening) == page


def test_page_is_told_and_opened_only_when_asked(tmp_path):
    """`serve --lake` says where the page is; it starts a browser with --open, and none where nobody sits."""
    imagelake.open(tmp_path / "empty.lake", create=True)
    visited = tmp_path / "visited"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {visited}\n')
    browser.chmod(0o755)
    for words, opens in (([], False), (["--open"], True)):
        command = [sys.executable, "-m", "imagelake", "serve", "--lake", str(tmp_path / "empty.lake"),
                   "--listen", "127.0.0.1:0", *words]  # fmt: skip
        environment = os.environ | {"BROWSER": str(browser)}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        said = next(line for line in process.stderr if "in a browser" in line)
        process.stderr.readline()
        process.terminate()
        process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 0
        assert visited.exists() == opens, said
    assert visited.read_text().strip() in said


def test_lake_without_vectors_is_served(tmp_path):
    """A lake is looked at before anything of it can be searched: the page comes, and a search says what to do."""
    imagelake.open(tmp_path / "empty.lake", create=True)
    with served(tmp_path / "empty.lake") as site:
        with urllib.request.urlopen(f"{site.address}/page/api/about") as answer:
            told = json.load(answer)
        assert (told["images"], told["search"]) == (0, False)
        body = json.dumps({"id": "0" * 64}).encode()
        asked = urllib.request.Request(f"{site.address}/api/search", body, {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked)
        assert "imagelake extract" in json.load(refused.value)["error"]
        refused.value.close()
