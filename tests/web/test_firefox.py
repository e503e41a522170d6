"""The page in the other browser: every view comes up there too, without an error."""

import json
import shutil
import subprocess
import time

import pytest

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
VIEWS = ("browse", "search", "map", "duplicates", "atlas", "runs")
_READY = "Boolean(document.querySelector('.view-%s:not([hidden])') && document.querySelector('nav a[aria-current]'))"


class Bidi:
    """A browser that is driven by WebDriver BiDi: commands, and what its console said meanwhile."""

    def __init__(self, socket):
        self.socket, self.number, self.said = socket, 0, []

    def ask(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "log.entryAdded":
                self.said.append(message["params"])
            elif message.get("id") == self.number:
                assert message["type"] == "success", message
                return message["result"]


@pytest.mark.skipif(FIREFOX is None, reason="no Firefox: install the Debian package firefox-esr, and this test runs")
def test_every_view_comes_up_in_firefox(site, tmp_path):
    """Each view renders in Firefox, and nothing is said on the console that is an error."""
    client = pytest.importorskip("websockets.sync.client")
    command = [FIREFOX, "--headless", "--profile", str(tmp_path), "--remote-debugging-port", "0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stderr if "WebDriver BiDi listening on" in line)
        with client.connect(line.split()[-1] + "/session", max_size=None, proxy=None) as socket:
            firefox = Bidi(socket)
            firefox.ask("session.new", capabilities={})
            firefox.ask("session.subscribe", events=["log.entryAdded"])
            context = firefox.ask("browsingContext.getTree")["contexts"][0]["context"]
            firefox.ask("browsingContext.navigate", context=context, url=site.address, wait="complete")
            for view in VIEWS:
                go = f"document.querySelector('nav a[data-view={view}]')?.click()"
                firefox.ask("script.evaluate", expression=go, target={"context": context}, awaitPromise=False)
                deadline = time.monotonic() + 60
                while not _is_ready(firefox, context, view):
                    assert time.monotonic() < deadline, f"{view} does not come up"
                    time.sleep(0.1)
            assert [each["text"] for each in firefox.said if each["level"] == "error"] == []
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def _is_ready(firefox, context, view):
    target = {"context": context}
    result = firefox.ask("script.evaluate", expression=_READY % view, target=target, awaitPromise=False)
    return result["result"].get("value") is True
