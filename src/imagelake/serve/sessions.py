"""Who has logged in on the page: a key that was shown once, and a cookie in its place until it ends."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from imagelake.serve.api_keys import Keys
from imagelake.serve.errors_http import NoKeyError, TooOftenError
from imagelake.serve.rate_limit import RateLimit

LASTS_S = 12 * 3600.0
_MOST = 1_000  # at once; the oldest ends where there is one more
_PER_S, _AT_ONCE = 0.2, 10.0  # attempts of one address


class Sessions:
    """The sessions of one server, in memory: they end with it. Used from one thread, the event loop's.

    A session is 256 random bits. Only their digest is kept, and it is what is looked up, so that neither a copy of the
    memory nor the time that a look takes tells a session.

    Args:
        keys: one of which a login must show.
        write: whether those who are logged in may change the lake.
        clock: seconds.
    """

    def __init__(self, keys: Keys, *, write: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.write = write
        self._keys = keys
        self._clock = clock
        self._attempts = RateLimit(_PER_S, _AT_ONCE, clock)
        self._open: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # name of the key, and when it ends

    def begin(self, key: str, caller: str) -> str:
        """A new session, for the cookie.

        Args:
            key: as it was typed.
            caller: the address, whose attempts are counted.

        Raises:
            TooOftenError: the address tried too often.
            NoKeyError: the key is none of ours.
        """
        wait_s = self._attempts.wait_s(_network(caller))
        if wait_s:
            raise TooOftenError(f"Too many keys were tried from this address. Try again after {wait_s:.0f} s.", wait_s)
        name = self._keys.name_of(key.strip().encode("utf-8", "replace"))
        if name is None:
            raise NoKeyError("This is no key of the server. Ask whoever started it.")
        token = secrets.token_urlsafe(32)
        self._open[_digest(token.encode())] = (name, self._clock() + LASTS_S)
        if len(self._open) > _MOST:
            self._open.popitem(last=False)
        return token

    def name_of(self, token: bytes) -> str | None:
        """The name of the key that a session was begun with; None where there is no such session, or no more."""
        digest = _digest(token)
        name, until = self._open.get(digest, (None, 0.0))
        if name is not None and self._clock() >= until:
            del self._open[digest]
            return None
        return name

    def end(self, token: bytes) -> None:
        """End a session, where there is one."""
        self._open.pop(_digest(token), None)


def cookie_name(scheme: str, port: int | None) -> str:
    """What the cookie is called: with the port, since all servers of a machine share the cookies of its name.

    Over TLS, the prefix makes browsers refuse one that another page set.
    """
    return f"{'__Host-' if scheme == 'https' else ''}imagelake-{port or 0}"


def shown_session(cookies: bytes, name: str) -> bytes:
    """The session in a Cookie header; empty where there is none."""
    for each in cookies.split(b";"):
        key, _, value = each.strip().partition(b"=")
        if key == name.encode():
            return value
    return b""


def _network(caller: str) -> str:
    """What one caller can have of addresses: of IPv6, 64 bits of each are free to choose."""
    try:
        address = ipaddress.ip_address(caller.partition("%")[0])
    except ValueError:
        return caller
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped is not None:
        return caller
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
