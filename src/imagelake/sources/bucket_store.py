"""Opening a store: its address, its credentials, its limits, and its errors in words.

The library is obstore, for which `object_store` (what the table format itself stands on) does the work. `pyarrow.fs`,
which is here anyway, was tried first: it hands over a listing only when it is complete, so that a prefix of a hundred
million keys never begins; it asks twice for each object, a HEAD before the GET; and it knows no version marks. What
obstore cannot do, list a key with an empty part (`a//b.jpg`) or a control character, is left to it: see
`bucket_listing`.
"""

from __future__ import annotations

import configparser
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from imagelake._optional import need
from imagelake.errors import InputError

EXTRA = "buckets"

_ADDRESS = re.compile(r"(s3|gs|az|abfss?)://([^/]+)(?:/(.*))?", re.DOTALL)
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)(?:/|\.{1,2}(?:/|$))")
_METADATA_SERVICE = ("169.254.169.254", 80)
_ALLOWED = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or abfss://CONTAINER@HOST/PREFIX"
# Variables that name credentials, or a place to get them; the library reads them.
_S3_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
)
_GS_KEYS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
)
_AZ_KEYS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_MSI_ENDPOINT",
)


@dataclass(frozen=True)
class BucketOptions:
    """How objects are read.

    Attributes:
        in_flight: how many at a time.
        waiting_bytes: how many bytes may be on their way or wait to be consumed; one picture may exceed it.
        retries: further tries after an answer of 429 or 5xx, a broken connection, or none in time.
        backoff_s: about the wait before the first of them; it doubles with each, with a random part.
        connect_timeout_s: for a connection to be made.
        read_timeout_s: for the next bytes to come.
        total_timeout_s: for one request, and after which no further try begins.

    Raises:
        InputError: a number is out of range.
    """

    in_flight: int = 32
    waiting_bytes: int = 64 << 20
    retries: int = 4
    backoff_s: float = 0.2
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    total_timeout_s: float = 180.0

    def __post_init__(self) -> None:
        for name, least in (("in_flight", 1), ("waiting_bytes", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        for name in ("backoff_s", "connect_timeout_s", "read_timeout_s", "total_timeout_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; it must be more than 0 seconds.")


@dataclass(frozen=True)
class Place:
    """A place in a store: `root` is `s3://bucket`, `path` what follows it, as it is and never percent-encoded."""

    scheme: str
    bucket: str
    path: str

    @property
    def root(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def address(self) -> str:
        """The address of the place."""
        return f"{self.root}/{self.path}"


def parse_place(address: str) -> Place:
    """Take an address apart.

    Raises:
        InputError: it names no bucket, or a key that cannot be asked for.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(f"{address!r} is no address in a bucket. Give {_ALLOWED}.")
    place = Place(found[1], found[2], found[3] or "")
    if _UNUSABLE.search(place.path):
        raise InputError(
            f"{address!r} has an empty part, `.`, `..` or a control character, which cannot be asked for. "
            "Give the prefix before it."
        )
    return place


def open_store(place: Place, options: BucketOptions, *, anonymous: bool) -> Any:
    """The store of a bucket. Nothing is asked for yet, but where credentials are looked up.

    Raises:
        InputError: there are no credentials, or a setting is wrong.
        MissingExtraError: the library is not installed.
    """
    store = need(EXTRA, "obstore.store")
    settings = store_settings(place, os.environ, anonymous=anonymous)
    client = {
        "allow_http": _speaks_http(os.environ),
        "connect_timeout": timedelta(seconds=options.connect_timeout_s),
        "read_timeout": timedelta(seconds=options.read_timeout_s),
        "timeout": timedelta(seconds=options.total_timeout_s),
        "user_agent": "imagelake",
    }
    retry = {
        "max_retries": options.retries,
        "retry_timeout": timedelta(seconds=options.total_timeout_s),
        "backoff": {
            "init_backoff": timedelta(seconds=options.backoff_s),
            "max_backoff": timedelta(seconds=options.backoff_s * 64),
            "base": 2,
        },
    }
    try:
        return store.from_url(place.root, config=settings, client_options=client, retry_config=retry)
    except store_errors() as error:
        raise InputError(f"{place.root} cannot be opened: {explain(error)}. Check its name and settings.") from error


def store_errors() -> tuple[type[Exception], ...]:
    """What the library raises."""
    return (need(EXTRA, "obstore.exceptions").BaseError, OSError, ValueError)


def store_settings(place: Place, environment: Mapping[str, str], *, anonymous: bool) -> dict[str, Any]:
    """What the library does not read from the environment by itself.

    Raises:
        InputError: there are no credentials.
    """
    if place.scheme == "s3":
        return _s3_settings(place, environment, anonymous=anonymous)
    settings: dict[str, Any] = {}
    azure = place.scheme != "gs"
    if azure:
        theirs = {"account_name": "AZURE_STORAGE_ACCOUNT", "account_key": "AZURE_STORAGE_KEY"}
        settings = {name: environment[theirs[name]] for name in theirs if environment.get(theirs[name])}
    if anonymous:
        return settings | {"skip_signature": True}
    known = "account_key" in settings if azure else _has_google_login(environment)
    if not known and not _any(environment, _AZ_KEYS if azure else _GS_KEYS) and not _has_metadata_service():
        need_set = (
            "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN"
            if azure
            else "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
        )
        raise _no_credentials(place, need_set)
    return settings


def _s3_settings(place: Place, environment: Mapping[str, str], *, anonymous: bool) -> dict[str, Any]:
    profile = _profile(environment)
    settings = {}
    if "region" in profile and not _any(environment, ("AWS_REGION", "AWS_DEFAULT_REGION")):
        settings["region"] = profile["region"]
    if "endpoint_url" in profile and not endpoint_of(environment):
        settings["endpoint"] = profile["endpoint_url"]
    if anonymous:
        return settings | {"skip_signature": True}
    if _any(environment, _S3_KEYS) or environment.get("AWS_SKIP_SIGNATURE", "").lower() == "true":
        return settings
    if "aws_access_key_id" in profile and "aws_secret_access_key" in profile:
        names = ("access_key_id", "secret_access_key", "session_token")
        return settings | {name: profile[f"aws_{name}"] for name in names if f"aws_{name}" in profile}
    off = environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if off or not _has_metadata_service():
        raise _no_credentials(
            place,
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a login with SSO or a role, run "
            '`eval "$(aws configure export-credentials --format env)"`',
        )
    return settings


def _no_credentials(place: Place, need_set: str) -> InputError:
    return InputError(
        f"There are no credentials for {place.root}. Set {need_set}. For a public bucket, say --anonymous."
    )


def _any(environment: Mapping[str, str], names: Iterable[str]) -> bool:
    return any(environment.get(name) for name in names)


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The address of a server of S3 that the environment names."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((environment[name] for name in names if environment.get(name)), None)


def _speaks_http(environment: Mapping[str, str]) -> bool:
    """Whether somebody named an endpoint without TLS: a server of their own, or an emulator."""
    named = (endpoint_of(environment), environment.get("AZURE_STORAGE_ENDPOINT"), environment.get("GOOGLE_BASE_URL"))
    plain = any((each or "").startswith("http://") for each in (*named, _profile(environment).get("endpoint_url")))
    return plain or _any(environment, ("AZURE_STORAGE_USE_EMULATOR",))


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """What the files of the AWS tools say of the profile in use; its keys only where they are written there."""
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = Path("~/.aws").expanduser()
    config = Path(environment.get("AWS_CONFIG_FILE") or home / "config").expanduser()
    credentials = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser()
    found: dict[str, str] = {}
    for path, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeError) as error:
            raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}. Mend it.") from error
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found


def _has_google_login(environment: Mapping[str, str]) -> bool:
    folder = Path(environment.get("CLOUDSDK_CONFIG") or Path("~/.config/gcloud").expanduser())
    return (folder / "application_default_credentials.json").exists()


def _has_metadata_service() -> bool:
    """Whether this is a machine of a cloud, which hands out credentials on an address of its own."""
    try:
        with socket.create_connection(_METADATA_SERVICE, timeout=1.0):
            return True
    except OSError:
        return False


def explain(error: BaseException) -> str:
    """What a person reads of an error of the library, which shows its insides."""
    text = str(error)
    head = text.partition("\n\nDebug source")[0]
    retries = re.search(r"after (\d+) retries", head)
    tried = f" (tried {int(retries[1]) + 1} times)" if retries else ""
    status = re.search(r"status code: (\d{3}[^:<]*)", head)
    if status is not None:
        code = re.search(r"<Code>([^<]*)</Code>", head)
        return f"the store answers {status[1].strip()}{f' ({code[1]})' if code else ''}{tried}"
    if "kind: Timeout" in text:
        return f"it did not answer in time{tried}"
    if "kind: Connect" in text:
        why = re.search(r'(?:message|error): "([^"]*)"', text)
        return f"no connection{f' ({why[1]})' if why else ''}{tried}"
    if "redirect without LOCATION" in head:
        return "the bucket is in another region"
    return " ".join(head.split())[:300] or type(error).__name__


def listing_error(place: Place, error: BaseException) -> InputError:
    """Why a bucket cannot be listed, and what to do."""
    why = explain(error)
    if "404" in why:
        return InputError(f"There is no bucket {place.root}: {why}. Check its name, and the endpoint and region set.")
    if re.search(r"answers 40[013]", why):
        return InputError(
            f"{place.address} may not be listed: {why}. Check your credentials and their rights (list and get); "
            "for a public bucket, say --anonymous."
        )
    if "region" in why:
        return InputError(f"{place.address} cannot be listed: {why}. Set AWS_REGION to that of the bucket.")
    return InputError(
        f"{place.address} cannot be listed: {why}. Check the network and the endpoint (AWS_ENDPOINT_URL for s3://), "
        "and run again: what was read is kept."
    )
