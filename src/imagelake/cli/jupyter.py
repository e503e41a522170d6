"""A JupyterLab of this environment as a child process: behind a password, with the example notebooks."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imagelake._optional import need
from imagelake.errors import InputError

PASSWORD_VARIABLE = "IMAGELAKE_NOTEBOOK_PASSWORD"  # noqa: S105  (its name)
LAKE_VARIABLE = "IMAGELAKE_LAKE"
SHORTEST_PASSWORD = 8

_EXTRA = "notebook"
_START_S, _END_S = 120, 20
_LONGEST_SOCKET_FOLDER = 50  # a socket's path has at most about 100 letters, and half of them are its name


@dataclass(frozen=True)
class NotebookOptions:
    """What to start.

    Attributes:
        folder: what JupyterLab shows.
        host: the address to listen on.
        port: a free one.
        password: in the clear; only its hash leaves this process.
        lake: the address of the lake that the notebooks open; None: they make their own.
        open_browser: whether JupyterLab opens one.
    """

    folder: Path
    host: str
    port: int
    password: str
    lake: str | None
    open_browser: bool


def require_jupyter() -> None:
    """Refuse early where something is missing.

    Raises:
        MissingExtraError: JupyterLab, the kernel or matplotlib is not installed.
    """
    for module in ("jupyterlab", "ipykernel", "matplotlib"):
        if find_spec(module) is None:  # they are large: looking for them takes no second, importing them does
            need(_EXTRA, module)


def example_notebooks() -> list[Path]:
    """The notebooks that come with imagelake: in the package, or beside its sources.

    Raises:
        InputError: they are not there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parents[1] / "examples"):
        if found := sorted(folder.glob("*.ipynb")):
            return found
    raise InputError("The example notebooks are not in this installation. Install imagelake again.")


def copy_notebooks(folder: Path) -> list[Path]:
    """Put the example notebooks into `folder`; what is there already is left as it is.

    Returns:
        Those that were left and are not like ours: changed, or of another version.

    Raises:
        InputError: nothing can be written there.
    """
    changed = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for shipped in example_notebooks():
            target = folder / shipped.name
            if not target.exists():
                shutil.copyfile(shipped, target)
            elif not filecmp.cmp(shipped, target, shallow=False):
                changed.append(target)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}. Give another --folder.") from error
    return changed


def run_jupyter(options: NotebookOptions, ready: Callable[[str], None]) -> None:
    """Run JupyterLab until it ends, or until Ctrl-C or SIGTERM, which end it and its kernels.

    Args:
        options: what to start.
        ready: called with the address once it answers.

    Raises:
        InputError: it did not start, or ended with an error.
    """
    with _stopping_on_sigterm(), tempfile.TemporaryDirectory(prefix="imagelake-") as made:
        private = Path(made)  # nobody else may read it
        process = subprocess.Popen(  # noqa: S603  (this Python)
            [sys.executable, "-m", "jupyterlab", f"--config={_write_settings(private, options)}"],
            env=_environment(private, options),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),  # stdout is for our answer
            start_new_session=True,  # else it would ask on the terminal what Ctrl-C is to mean
        )
        try:
            ready(_wait(process, private, options))
            if code := process.wait():
                raise InputError(f"JupyterLab ended with the code {code}. What it wrote on stderr says why.")
        except KeyboardInterrupt:
            pass
        finally:
            _end(process)


def _write_settings(private: Path, options: NotebookOptions) -> Path:
    """The settings, with the hash of the password and not the password, in a file that only this user can read."""
    hashed = need(_EXTRA, "jupyter_server.auth").passwd(options.password)
    settings: dict[str, Any] = {
        "ServerApp": {
            "ip": options.host,
            "port": options.port,
            "port_retries": 0,
            "root_dir": str(options.folder),
            "open_browser": options.open_browser,
            "use_redirect_file": False,  # there is no token to hide
            "allow_root": os.geteuid() == 0,  # in a container, as the published demo
            "identity_provider_class": "jupyter_server.auth.identity.PasswordIdentityProvider",
            "log_level": "WARN",
        },
        "PasswordIdentityProvider": {
            "hashed_password": hashed,
            "token": "",
            "password_required": True,
            "allow_password_change": False,
        },
        # Nothing is asked of other hosts that nobody asked for.
        "LabApp": {
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "log_level": "WARN",
            "news_url": None,
            "extension_manager": "readonly",
            "default_url": "/lab/tree/image_search.ipynb",
        },
    }
    if len(str(private)) <= _LONGEST_SOCKET_FOLDER:  # else ports of this machine, which its other users can read
        settings["KernelManager"] = {"transport": "ipc"}
    path = private / "settings.json"
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def _environment(private: Path, options: NotebookOptions) -> dict[str, str]:
    """That of this process, with the kernel of this Python before others, and without what is secret."""
    kernel = private / "data" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    told = {"argv": words, "display_name": "Python 3 (imagelake)", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(told), encoding="utf-8")
    hidden = {PASSWORD_VARIABLE, LAKE_VARIABLE, "JUPYTER_TOKEN", "IMAGELAKE_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["JUPYTER_RUNTIME_DIR"] = str(private)
    page = private / "config" / "labconfig"
    page.mkdir(parents=True)
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}  # it asks to fetch news
    (page / "page_config.json").write_text(json.dumps(quiet), encoding="utf-8")
    for name, own in (("JUPYTER_PATH", "data"), ("JUPYTER_CONFIG_PATH", "config")):  # ours comes first
        environment[name] = os.pathsep.join(filter(None, [str(private / own), os.environ.get(name)]))
    return environment if options.lake is None else environment | {LAKE_VARIABLE: options.lake}


def _wait(process: subprocess.Popen[bytes], private: Path, options: NotebookOptions) -> str:
    """The address, once JupyterLab listens there."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        told = next(private.glob("jpserver-*.json"), None)
        # It is written before anybody listens, and may be half written.
        with contextlib.suppress(OSError, ValueError, KeyError):
            if told is not None:
                socket.create_connection((options.host, options.port), timeout=5).close()
                return str(json.loads(told.read_text(encoding="utf-8"))["url"]) + "lab"
        time.sleep(0.1)
    raise InputError("JupyterLab did not start. What it wrote on stderr says why; or try: jupyter lab")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and its kernels; where it does not end by itself, by force."""
    process.terminate()
    try:
        process.wait(_END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """SIGTERM as Ctrl-C."""

    def stop(number: int, frame: object) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
