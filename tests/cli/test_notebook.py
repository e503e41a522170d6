"""`imagelake notebook`: a real JupyterLab, its password, its kernel, and how it ends."""

import contextlib
import http.cookiejar
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from imagelake.cli import jupyter
from imagelake.cli import main as cli
from imagelake.cli.notebook import _password
from imagelake.errors import InputError

COMMAND = [sys.executable, "-m", "imagelake", "notebook"]
PASSWORD = "a word for the tests"


@contextlib.contextmanager
def started(folder, *words, **environment):
    """`imagelake notebook --json` on a free port; what it told, and its process. Ended by Ctrl-C."""
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [*COMMAND, "--json", "--listen", "127.0.0.1:0", *words],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        yield json.loads(line), process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(40) == 0
        finally:
            process.stdout.close()
            log.close()


class Visitor:
    """A browser without a screen: keeps cookies, and sends Jupyter's token of forms."""

    def __init__(self, address):
        self.address = address.removesuffix("/lab")
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def ask(self, path, data=None):
        """Status, the last address, and the body."""
        try:
            with self.opener.open(self.address + path, data, timeout=30) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.url, error.read().decode()

    def log_in(self, password):
        self.ask("/login")
        token = {cookie.name: cookie.value for cookie in self.jar}.get("_xsrf", "")
        form = urllib.parse.urlencode({"password": password, "_xsrf": token})
        return self.ask("/login?next=%2Fapi%2Fstatus", form.encode())


def children(pid):
    """The command lines and environments of the processes that a process started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found.append((int(folder.name), (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()))
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One that was given a password and a lake, from before to after all tests that look at it."""
    folder = tmp_path_factory.mktemp("notebook")
    import imagelake

    imagelake.open(folder / "own.lake", create=True)
    given = {jupyter.PASSWORD_VARIABLE: PASSWORD, "JUPYTER_TOKEN": "no"}
    with started(folder, "--lake", "own.lake", **given) as (told, process):
        yield folder, told, process


def test_it_tells_where_it_is_and_puts_the_notebooks_there(running):
    """The address, the folder with both notebooks, the lake by its whole path; a given password is not repeated."""
    folder, told, _ = running
    assert told["address"].startswith("http://127.0.0.1:")
    assert told["folder"] == str(folder / "notebooks")
    assert told["lake"] == str(folder / "own.lake")
    assert told["password"] is None
    assert {path.name for path in (folder / "notebooks").glob("*.ipynb")} == {"image_search.ipynb", "lakehouse.ipynb"}


def test_nobody_enters_without_the_password(running):
    """Pages lead to the login, the interface refuses; a wrong password or a token of the environment opens nothing."""
    _, told, _ = running
    visitor = Visitor(told["address"])
    assert "/login" in visitor.ask("/lab")[1]
    for path in ("/api/contents", "/api/kernels", "/api/contents?token=no", "/api/contents?token="):
        assert visitor.ask(path)[0] == 403
    assert visitor.log_in("a word for tests")[0] == 401
    assert visitor.log_in("")[0] in {401, 403}
    assert visitor.ask("/api/contents")[0] == 403


def test_the_password_opens_it(running):
    """Then the notebooks are listed, and the kernel is this Python."""
    _, told, _ = running
    visitor = Visitor(told["address"])
    assert visitor.log_in(PASSWORD)[0] == 200
    status, _, listed = visitor.ask("/api/contents")
    assert status == 200
    assert {each["name"] for each in json.loads(listed)["content"]} >= {"image_search.ipynb", "lakehouse.ipynb"}
    specs = json.loads(visitor.ask("/api/kernelspecs")[2])
    assert specs["kernelspecs"]["python3"]["spec"]["argv"][0] == sys.executable


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_password_is_nowhere_to_be_read(running):
    """Not on a command line, not in an environment that kernels inherit, not in the log; settings are for this user."""
    folder, _, process = running
    told = children(process.pid)
    assert len(told) == 1
    _, command, environment = told[0]
    assert PASSWORD.encode() not in command + environment
    assert f"IMAGELAKE_LAKE={folder / 'own.lake'}".encode() in environment
    assert PASSWORD not in (folder / "log").read_text()
    settings = Path(command.decode().split("--config=")[1].rstrip("\0"))
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.parent.stat().st_mode) == 0o700
    assert PASSWORD not in settings.read_text()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_it_ends_with_all_that_it_started(running):
    """Ctrl-C ends JupyterLab, and leaves no file but the notebooks."""
    _, _, process = running
    [(child, command, _)] = children(process.pid)
    settings = Path(command.decode().split("--config=")[1].rstrip("\0"))
    assert settings.exists()
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 0
    assert not Path(f"/proc/{child}").exists()
    assert not settings.parent.exists()


def test_a_password_is_made_up_where_none_is_given(monkeypatch, tmp_path):
    """A long one, another each time; that of a file is its first line."""
    monkeypatch.delenv(jupyter.PASSWORD_VARIABLE, raising=False)
    (one, made_up), (other, _) = _password(ask=False, file=None), _password(ask=False, file=None)
    assert made_up
    assert len(one) >= 16
    assert one != other
    (tmp_path / "word").write_text(f"{PASSWORD}\nsecond line\n")
    assert _password(ask=False, file=tmp_path / "word") == (PASSWORD, False)


def test_a_notebook_that_was_changed_stays(tmp_path):
    """It is named, and neither it nor one that is as it was shipped is written again."""
    assert jupyter.copy_notebooks(tmp_path) == []
    mine = tmp_path / "lakehouse.ipynb"
    mine.write_text("mine")
    assert jupyter.copy_notebooks(tmp_path) == [mine]
    assert mine.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    """In words, not as a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--folder"):
        jupyter.copy_notebooks(tmp_path / "file")


@pytest.mark.parametrize(
    ("words", "environment", "told"),
    [
        (["--listen", "8888"], {}, "HOST:PORT"),
        ([], {jupyter.PASSWORD_VARIABLE: "short"}, "has 5 letters"),
        (["--password-file", "nowhere"], {}, "nowhere cannot be read"),
        (["--lake", "no.lake"], {}, "no.lake"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, words, environment, told):
    """And exit code 1, with nothing started and no password in the message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["imagelake", "notebook", *words])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert "short" not in said
    assert list(tmp_path.iterdir()) == []
