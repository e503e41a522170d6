import threading

import pytest
from sources.misbehaving_server import PICTURE, MisbehavingServer

from imagelake.errors import InputError, TimeLimitError, TooLargeError
from imagelake.serve.downloads import DownloadOptions, download, is_address

OPEN = DownloadOptions(allow_private=True, retries=0)


@pytest.fixture(scope="module")
def server():
    with MisbehavingServer() as running:
        yield running


def test_no_address_gives_nothing():
    """Nothing asked, nothing fetched."""
    assert download([], OPEN) == []


def test_answers_come_in_the_order_of_the_addresses(server):
    """A slow address does not change places with a quick one, and one that stands twice is there twice."""
    addresses = [server.url("/slow"), server.url("/gzip"), server.url("/slow"), server.url("/good").encode()]
    assert download(addresses, OPEN) == [PICTURE] * 4
    assert threading.active_count() < 50


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("/status?code=404", "404"),
        ("/short", "broke off"),
        ("/to?address=http://127.0.0.1:1/", "cannot connect"),
        ("/circle/a", "circle"),
    ],
)
def test_one_that_fails_is_named(server, bad, why):
    """The error says which address failed, by its place, and why."""
    with pytest.raises(InputError, match=f"(?s)Address 1, .*{why}"):
        download([server.url("/good"), server.url(bad), server.url("/good")], OPEN)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"file:///etc/passwd", b"", b"gopher://x/", b"http://user:pw@"])
def test_what_is_no_address_is_refused(text):
    """Only addresses of the web are fetched, and no password comes back."""
    with pytest.raises(InputError, match="Address 0") as refused:
        download([text], OPEN)
    assert "pw" not in str(refused.value)


def test_a_private_address_is_refused(server):
    """Unless it is allowed, no request reaches this machine's own network."""
    with pytest.raises(InputError, match=r"Address 0.*this machine itself"):
        download([server.url("/good")], DownloadOptions(retries=0))
    with pytest.raises(InputError, match="link-local"):
        download(["http://169.254.169.254/latest/meta-data/"], DownloadOptions(retries=0))


def test_limits_hold(server):
    """Too many addresses, too large a picture, too much in all, too slow: each is an error, and none waits."""
    good = server.url("/good")
    with pytest.raises(TooLargeError, match="3 addresses"):
        download([good] * 3, DownloadOptions(allow_private=True, max_count=2))
    with pytest.raises(InputError, match="the limit is 100"):
        download([good], DownloadOptions(allow_private=True, max_bytes=100))
    with pytest.raises(TooLargeError, match="together"):
        download([good] * 3, DownloadOptions(allow_private=True, max_total_bytes=2 * len(PICTURE)))
    with pytest.raises((TimeLimitError, InputError), match=r"0\.3 s"):
        download([server.url("/stall")], DownloadOptions(allow_private=True, retries=0, timeout_s=0.3))


def test_addresses_are_told_from_pictures():
    """Bytes that begin as an address are one."""
    assert is_address(b"HTTPS://a/b.jpg")
    assert not is_address(b"\xff\xd8\xff")
    assert not is_address(b"")
