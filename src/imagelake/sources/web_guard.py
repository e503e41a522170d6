"""Which addresses may be fetched: `http` and `https`, and of hosts that stand on the open internet.

A list of addresses comes from elsewhere, and so does each redirect. Whoever writes one could make this machine ask its
own network, its own ports or the metadata service of its cloud. So a host's name is resolved here, every address it has
is looked at, and the connection is made to one of those very addresses: a name that answers otherwise a moment later
(DNS rebinding) gains nothing.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util import parse_url
from urllib3.util.connection import create_connection

from imagelake.errors import InputError

Resolver = Callable[[str], Sequence[str]]
"""From a host's name to its IP addresses as text; raises `socket.gaierror` where there are none."""

_PORTS = {"http": 80, "https": 443}
_MOST_TRIED = 3  # addresses of one host
_MOST_LETTERS = 16_384
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:/{2,})?[^/?#]*@")
_ANYTHING_BEFORE_AT = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:/{2,})?.*@", re.DOTALL)

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_EMBEDDED = ipaddress.ip_network("::/96")  # IPv4-compatible IPv6, long abandoned, still understood by some
_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given out for the open internet
_SPECIAL = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")]
_SERVICES = {ipaddress.ip_address("168.63.129.16")}  # of Azure; public by its number, reached only from inside


@dataclass(frozen=True)
class Target:
    """An address taken apart.

    Attributes:
        uri: the address without user and password.
        path: path and query, as they are sent.
        authorization: the header that user and password make, None without.
    """

    uri: str
    scheme: str
    host: str
    port: int
    path: str
    authorization: str | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What shares connections, and what a password is meant for."""
        return self.scheme, self.host, self.port

    @property
    def base(self) -> str:
        """The address as it is asked for: what a redirect is relative to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def parse_target(text: str) -> Target:
    """Take an address apart.

    Raises:
        InputError: it is none, or not of `http` or `https`.
    """
    try:
        if len(text) > _MOST_LETTERS:
            raise InputError(f"an address of {len(text):,} letters; the limit is {_MOST_LETTERS:,}")
        url = parse_url(text)
    except (HTTPError, ValueError) as error:  # its message may hold the password
        raise InputError("not an address: write http://host/path or https://host/path") from error
    scheme = (url.scheme or "").lower()
    if scheme not in _PORTS or "\\" in text.partition("://")[2].partition("/")[0]:
        raise InputError("not an address of http or https: write http://host/path or https://host/path")
    if url.port == 0:
        raise InputError("an address with port 0: ports go from 1 to 65535")
    if not url.host:
        raise InputError("an address without a host: write http://host/path or https://host/path")
    host = url.host.strip("[]").lower()
    return Target(without_user(text), scheme, host, url.port or _PORTS[scheme], url.request_uri, _basic(url.auth))


def without_user(text: str) -> str:
    """An address as it may be kept: without user and password, also where it is too broken to be taken apart."""
    try:
        parse_url(text)
    except (HTTPError, ValueError):
        return _ANYTHING_BEFORE_AT.sub(r"\1", text)
    return _USER.sub(r"\1", text)


def _basic(user: str | None) -> str | None:
    """The header that says user and password (RFC 7617)."""
    return None if not user else "Basic " + base64.b64encode(unquote_to_bytes(user)).decode("ascii")


def system_resolver(host: str) -> list[str]:
    """The addresses that this system knows for a name, the best first."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Guard:
    """Says to which IP addresses a connection to a host may be made.

    Attributes:
        allow_private: let every address pass; for servers of one's own.
        resolve: who turns names into addresses.
    """

    allow_private: bool = False
    resolve: Resolver = system_resolver

    def addresses(self, host: str) -> list[str]:
        """The addresses of a host, all of them looked at.

        Raises:
            InputError: one of them is not of the open internet.
            socket.gaierror: the name has none.
        """
        try:
            found = list(self.resolve(host))
        except UnicodeError as error:  # a part that is empty or too long
            raise InputError(f"the host {host} is not a name that can be looked up") from error
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not self.allow_private:
            for address in found:
                kind = why_private(address)
                if kind is not None:
                    raise InputError(
                        f"the host {host} is at {address}, {kind}; only addresses of the open internet are fetched "
                        "unless private ones are allowed"
                    )
        return found


def why_private(address: str) -> str | None:
    """What keeps an IP address from being one of the open internet; None where nothing does."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return "which is no IP address"
    inner = _inner(number)
    if inner is not None and why_private(str(inner)) is not None:
        return f"which stands for {inner}, {why_private(str(inner))}"
    tests = (
        (number.is_loopback, "this machine itself"),
        (number.is_link_local, "a link-local address, such as the metadata service of a cloud"),
        (number in _SERVICES, "an internal service of a cloud"),
        (number.is_multicast, "a multicast address"),
        (number.is_unspecified, "no address of any machine"),
        (number.is_private, "a private address"),
        (number.is_reserved and inner is None, "a reserved address"),
        (isinstance(number, ipaddress.IPv6Address) and number.is_site_local, "a private address"),
        (not number.is_global and inner is None, "a shared or reserved address"),
        (any(number in network for network in _SPECIAL), "a reserved address"),
        (number.version == 6 and number not in _UNICAST and inner is None, "a reserved address"),
    )
    return next((kind for wrong, kind in tests if wrong), None)


def _inner(number: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address is another way to write, or leads to."""
    if isinstance(number, ipaddress.IPv4Address):
        return None
    last = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
    if number in _NAT64 or (number in _EMBEDDED and int(number) > 1):
        return last
    return number.ipv4_mapped or number.sixtofour


class ClosedError(Exception):
    """The fetching was ended while this picture was on its way."""


@dataclass(eq=False)
class Try:
    """One try to fetch a picture, as those who watch its time and its bytes see it."""

    deadline: float
    held_bytes: int = 0
    leash: socket.socket | None = None  # shares the connection that this try is using


@dataclass
class Watch:
    """Cuts connections whose time is up: a server that sends a byte now and then never lets a read time out."""

    tries: dict[int, Try] = field(default_factory=dict)  # by the thread they run in
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, leash: socket.socket | None) -> None:
        """The try of this thread now uses this connection."""
        with self.lock:
            current = self.tries.get(threading.get_ident())
            if self.closed:
                raise ClosedError
            if current is not None:
                current.leash = leash

    def cut_overdue(self) -> None:
        """End the tries whose deadline has passed; called now and then."""
        now = time.monotonic()
        with self.lock:
            for current in self.tries.values():
                if current.leash is not None and (self.closed or current.deadline < now):
                    with suppress(OSError):
                        current.leash.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all tries, and let none begin."""
        with self.lock:
            self.closed = True
        self.cut_overdue()

    @contextmanager
    def watching(self, current: Try) -> Iterator[None]:
        """Keep the time of a try in this thread."""
        with self.lock:
            self.tries[threading.get_ident()] = current
        try:
            yield
        finally:
            with self.lock:
                del self.tries[threading.get_ident()]


class GuardedConnection(HTTPConnection):
    """A connection to an address that the guard has looked at, and that can be cut from another thread."""

    def __init__(self, *arguments: Any, guard: Guard, watch: Watch, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.guard = guard
        self.watch = watch
        self.leash: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        """Where urllib3 opens its socket; what its SOCKS connections override too."""
        try:
            first, *others = self.guard.addresses(self.host)[:_MOST_TRIED]
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        for address, following in zip([first, *others], [*others, None], strict=True):
            try:
                opened = self._dial(address)
            except (ConnectTimeoutError, NewConnectionError):
                if following is None:
                    raise
            else:
                break
        self.leash = opened.dup()
        try:
            self.watch.hold(self.leash)
        except ClosedError:
            opened.close()
            raise
        return opened

    def _dial(self, address: str) -> socket.socket:
        try:
            return create_connection((address, self.port), self.timeout, None, self.socket_options)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise NewConnectionError(self, error.strerror or str(error)) from error

    def request(self, *arguments: Any, **options: Any) -> None:
        """Tell the watch which connection this try uses; one that is opened now tells it itself."""
        if self.leash is not None:
            self.watch.hold(self.leash)
        super().request(*arguments, **options)

    def close(self) -> None:
        """Close both ends of the leash."""
        super().close()
        if self.leash is not None:
            with self.watch.lock:
                self.leash.close()
            self.leash = None


class GuardedTlsConnection(GuardedConnection, HTTPSConnection):
    """The same with TLS: the name that is asked for and checked is the host's, whatever its address."""
