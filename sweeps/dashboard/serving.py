"""optuna-dashboard on a study, read-only, with pictures of each trial as its artifacts."""

from __future__ import annotations

import errno
import functools
import io
import ipaddress
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from ..errors import StudyError

if TYPE_CHECKING:
    from ..storage.tables import StudyTables

PICTURES_KEPT: Final = 200  # in memory, about 60 kB each
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_WILDCARDS: Final = ("0.0.0.0", "::", "")  # addresses that listen on all of a machine's
_HOST: Final = re.compile(r"(\[[^\[\]]+\]|[^:\[\]]+)(:\d+)?")  # a name or an address, and a port

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Dashboard(NamedTuple):
    """optuna-dashboard of a study: a WSGI application, and the path in it at which the study is shown."""

    app: App
    path: str


def dashboard(study_dir: Path) -> Dashboard:
    """Make the dashboard of a study.

    Raises `StudyError` where the package is missing or the study cannot be read.
    """
    try:
        import optuna_dashboard
    except ImportError:
        raise StudyError(
            "the dashboard needs the package optuna-dashboard: pip install 'pinnsweep[dashboard]'"
        ) from None
    from .importances import ADDRESS, Importances
    from .storage import StudyStorage

    storage = StudyStorage(study_dir)
    storage.look()
    app = optuna_dashboard.wsgi(storage, artifact_store=_Pictures(storage.tables))
    app.route(ADDRESS, callback=Importances(storage))  # in place of its own, which leaves failed trials out
    return Dashboard(_read_only(app), f"/dashboard/studies/{storage.get_study_id_from_name(storage.name)}")


def serve(app: App, host: str, port: int, names: Collection[str] = ()) -> WSGIServer:
    """Return a server that listens at `host`, on any free port where `port` is 0; its `serve_forever` answers requests.

    Requests for other hosts than this machine's loopback, `host` and `names` are refused. Raises `StudyError` where it
    cannot listen there.
    """
    kind = type("Server", (_Server,), {"address_family": socket.AF_INET6}) if ":" in host else _Server
    try:
        server = kind((host, port), _Handler)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise StudyError(
                f"port {port} of {host} is taken by another program. Give another: --port {port + 1}, or --port 0 for "
                "any free port"
            ) from None
        raise StudyError(f"the dashboard cannot listen at {host}, port {port} ({problem.strerror})") from None
    server.set_app(_for_hosts(app, host, names))
    return server


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True  # so that Ctrl-C does not wait for open connections


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Pictures:
    """The pictures of trials as an Optuna artifact store. Each is drawn on the first request for it, one at a time."""

    def __init__(self, tables: StudyTables) -> None:
        self._tables = tables
        self._lock = threading.Lock()  # Matplotlib's style is the same for all threads
        self._picture = functools.lru_cache(PICTURES_KEPT)(self._draw)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return a picture by its name. Raises HTTP's 503 where the tables cannot be read."""
        from .storage import unavailable_on_error

        with self._lock, unavailable_on_error():
            return io.BytesIO(self._picture(artifact_id))

    def _draw(self, artifact_id: str) -> bytes:
        from .pictures import trial_picture
        from .storage import parse_artifact_id

        trial, replicate, name = parse_artifact_id(artifact_id)
        return trial_picture(self._tables, name, trial, replicate)

    def write(self, artifact_id: str, content_body: BinaryIO) -> NoReturn:
        """Raise `NotImplementedError`: nothing can be stored."""
        raise NotImplementedError

    def remove(self, artifact_id: str) -> NoReturn:
        """Raise `NotImplementedError`: nothing can be removed."""
        raise NotImplementedError


def _read_only(app: App) -> App:
    """Return the application with every request other than GET and HEAD refused (403)."""
    from .storage import READ_ONLY

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        return _refused("403 Forbidden", READ_ONLY, start_response)

    return guarded


def _for_hosts(app: App, host: str, names: Collection[str]) -> App:
    """Return the application with requests for hosts that it does not serve refused (421), whatever their path.

    A page of another site whose name is made to lead here could read the study otherwise. Such a request has a name: a
    server at all addresses of a machine, which it cannot list, accepts every address.
    """
    known = {_plain_host(name) for name in (*LOOPBACK, host, *names) if name}
    accepts_addresses = host in _WILDCARDS

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ.get("HTTP_HOST", "")
        match = _HOST.fullmatch(asked)
        name = _plain_host(match[1]) if match else ""
        if name in known or (accepts_addresses and _is_address(name)):
            return app(environ, start_response)
        reason = (
            f"this dashboard answers requests for {', '.join(sorted(known))}, got {asked[:100]!r}. To "
            "reach it by another name, start it with --allow-host NAME"
        )
        return _refused("421 Misdirected Request", reason, start_response)

    return guarded


def _plain_host(name: str) -> str:
    """Return a host as it is compared: in small letters, without the brackets of an IPv6 address and a final dot."""
    return name.lower().strip("[]").removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(status: str, reason: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = json.dumps({"reason": reason}).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
