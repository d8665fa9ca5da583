"""An object store for tests: an S3 server on this machine with dummy credentials."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cluster.waiting import WAIT_S

KEY, SECRET = "AKIADUMMYDUMMYDUMMY0", "dummy-secret-that-nobody-may-write-down"
_numbers = itertools.count(1)


class ObjectStore:
    """The server; `stop` makes it unreachable, `start` starts it again on the same port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start the server."""
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Stop the server."""
        self._server.stop()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stop the server for the length of the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def bucket(self) -> str:
        """Create a bucket and return its name."""
        name = f"bucket-{next(_numbers)}"
        self.request("PUT", f"/{name}")
        return name

    def request(self, method: str, path: str, content: bytes = b"") -> bytes:
        """Send a request and return the content of the answer."""
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(self.url + path, data=content, method=method, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return bytes(answer.read())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse every request for the length of the block."""
        self.request("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self.request("POST", "/moto-api/reset-auth", b"inf")


class _Denying(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@contextmanager
def denying() -> Iterator[str]:
    """Yield the URL of a server that denies every request, as S3 does without valid credentials."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Denying) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(WAIT_S)


def environment(url: str) -> dict[str, str]:
    """Return the environment variables that a user sets to reach a store."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectStore]:
    """One server for the tests of a module."""
    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture
def store(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """The server, with the environment that reaches it and a cache for this test."""
    for name, value in environment(s3.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return s3


@pytest.fixture
def root(store: ObjectStore) -> str:
    """A root for studies in a new bucket."""
    return f"s3://{store.bucket()}/some/prefix"
