"""A web server on this machine that answers well or badly, by the path that it is asked for."""

import gzip
import ssl
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PICTURE = bytes(range(256)) * 40


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class MisbehavingServer:
    """Started and stopped by `with`. `/good` answers as it should; each other path has a fault of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None):
        self.asked = Counter()  # by path
        self.headers = {}  # of the last request, by path
        self.connections = set()
        self.at_once = Counter()
        self.most_at_once = 0
        self.closing = threading.Event()
        self.lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of_tests = outer

        self.server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "http" if tls is None else "https"
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, path, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_tests: MisbehavingServer

    def do_GET(self):
        """The first part of the path is the name of the method that answers."""
        tests = self.server_of_tests
        split = urlsplit(self.path)
        with tests.lock:
            tests.asked[self.path] += 1
            tests.headers[self.path] = dict(self.headers)
            tests.connections.add(self.client_address)
            tests.at_once["now"] += 1
            tests.most_at_once = max(tests.most_at_once, tests.at_once["now"])
        try:
            getattr(self, "answer_" + split.path.split("/")[1], self.answer_missing)(
                parse_qs(split.query, keep_blank_values=True)
            )
        finally:
            with tests.lock:
                tests.at_once["now"] -= 1

    def log_message(self, *_):
        """Say nothing."""

    def send(self, status=200, body=PICTURE, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def answer_good(self, _query):
        self.send()

    def answer_slow(self, _query):
        self.server_of_tests.closing.wait(0.05)
        self.send()

    def answer_empty(self, _query):
        self.send(body=b"")

    def answer_missing(self, _query):
        self.send(404, b"nothing here")

    def answer_status(self, query):
        self.send(int(query["code"][0]), b"no")

    def answer_garbage(self, _query):
        self.send(body=b"<html>no picture</html>")

    def answer_noise(self, _query):
        self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def answer_stall(self, _query):
        self.server_of_tests.closing.wait(5)
        self.close_connection = True

    def answer_short(self, _query):
        """Fewer bytes than announced."""
        self.send(length=len(PICTURE) + 100)
        self.close_connection = True

    def answer_shortonce(self, query):
        """Fewer bytes than announced, the first time."""
        if self.server_of_tests.asked[self.path] == 1:
            self.answer_short(query)
        else:
            self.send()

    def answer_long(self, query):
        """More bytes than announced."""
        self.send(length=int(query.get("length", [len(PICTURE) - 100])[0]))

    def answer_lengths(self, _query):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
        self.close_connection = True

    def answer_chunked(self, query):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(PICTURE), 1000):
            piece = PICTURE[start : start + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if "cut" in query:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def answer_endless(self, _query):
        """Bytes without an end, and without a length."""
        self.send_response(200)
        self.end_headers()
        while not self.server_of_tests.closing.is_set():
            self.wfile.write(PICTURE)

    def answer_drip(self, query):
        """A byte now and then: no read ever times out."""
        self.send_response(200)
        if "headers" not in query:
            self.send_header("Content-Length", "1000")
            self.end_headers()
        else:
            self.flush_headers()
        for number in range(1000):
            self.wfile.write(b"X"[:1] if "headers" not in query else (f"X-{number}: 1\r\n".encode()))
            time.sleep(0.05)
            if self.server_of_tests.closing.is_set():
                return

    def answer_busy(self, query):
        """429 the first times."""
        after = {"Retry_After": query["after"][0]} if "after" in query else {}
        times = int(query.get("times", ["1"])[0])
        if self.server_of_tests.asked[self.path] <= times:
            self.send(int(query.get("code", ["429"])[0]), b"", **after)
        else:
            self.send()

    def answer_to(self, query):
        self.send(302, b"over there", Location=query["address"][0])

    def answer_nowhere(self, _query):
        self.send(302, b"")

    def answer_circle(self, _query):
        self.send(302, b"", Location="/circle/" + ("b" if self.path.endswith("a") else "a"))

    def answer_far(self, query):
        self.send(302, b"", Location=f"/far?step={int(query['step'][0]) + 1}")

    def answer_gzip(self, _query):
        self.send(body=gzip.compress(PICTURE), Content_Encoding="gzip")

    def answer_bomb(self, _query):
        self.send(body=gzip.compress(bytes(20 << 20)), Content_Encoding="gzip")

    def answer_gziphalf(self, _query):
        self.send(body=gzip.compress(PICTURE)[:-30], Content_Encoding="gzip")

    def answer_brotli(self, _query):
        self.send(body=b"whatever", Content_Encoding="br")

    def answer_large(self, query):
        self.send(body=bytes(int(query["size"][0])))
