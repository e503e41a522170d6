"""A real PostgreSQL server in a temporary folder, on a free port of this machine and a socket in the folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "128MB",
    "max_connections": "40",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        port: on 127.0.0.1; there everybody is trusted.
        folder: of its data, log and socket.
        binaries: where psql and the others are.
        pid: of the process that starts all others.
    """

    port: int
    folder: Path
    binaries: Path
    pid: int

    def address(self, database: str = "postgres", user: str = "owner") -> str:
        """What a client connects to."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def psql(self, *statements: str, database: str = "postgres") -> str:
        """Run statements, each on its own, and give what they print: no header, `|` between columns."""
        words = [word for each in statements for word in ("-c", each)]
        return self._psql([*words], database, None)

    def script(self, text: str, database: str = "postgres") -> str:
        """Run a script, which may be long."""
        return self._psql(["-f", "-"], database, text)

    def _psql(self, words: Sequence[str], database: str, text: str | None) -> str:
        command = [str(self.binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.address(database), *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()


def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` are, or None: on PATH, or where Debian keeps its versions."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    debian = Path("/usr/lib/postgresql")
    versions = sorted(debian.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((path for path in versions if (path / "initdb").exists() and (path / "postgres").exists()), None)


@contextmanager
def running_server(binaries: Path, settings: dict[str, str] | None = None, hba: str = "") -> Iterator[PostgresServer]:
    """A fresh server, stopped and removed at the end. `hba` comes before the line that trusts everybody."""
    user = _NOBODY if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path holds 107 letters
    try:
        folder.chmod(0o700)
        if user is not None:
            os.chown(folder, user, user)
        data = folder / "data"
        make = [str(binaries / "initdb"), "-D", str(data), "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _run([*make, "--locale=C.UTF-8"], user, folder)
        (data / "pg_hba.conf").write_text(f"{hba}\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n")
        port = _free_port()
        options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(folder)}
        lines = [f"{name} = '{value}'" for name, value in (options | _SETTINGS | (settings or {})).items()]
        with (data / "postgresql.conf").open("a") as file:
            file.write("\n" + "\n".join(lines) + "\n")
        control = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
        _run([*control, "-l", str(folder / "log"), "start"], user, folder)
        try:
            pid = int((data / "postmaster.pid").read_text().split()[0])
            yield PostgresServer(port, folder, binaries, pid)
        finally:
            if (data / "postmaster.pid").exists():
                _run([*control, "-m", "immediate", "stop"], user, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], user: int | None, folder: Path) -> None:
    groups = [] if user is not None else None
    done = subprocess.run(
        command,
        user=user,
        group=user,
        extra_groups=groups,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never end
        stderr=subprocess.PIPE if "initdb" in command[0] else subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        log = folder / "log"
        raise RuntimeError(f"{command[0]} failed: {done.stderr or (log.read_text() if log.exists() else '')}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
