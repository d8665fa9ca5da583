"""A folder in an object store, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX: whole objects put, read, listed, removed.

Nothing else talks to `pyarrow.fs`. An object appears whole or not at all. Credentials are found as the providers' own
programs find them, in the environment, in profiles and from the machine's role, and are never part of the URI.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ..errors import StudyError

CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 5.0  # without a byte from the store
ATTEMPTS: Final = 3
TRANSFERS: Final = 8  # at once
SMALL_BYTES: Final = 4 << 20  # an object up to here is written in one request
PROOF: Final = ".preflight-"  # begins the name of an object that is written to see whether it can be
_PLACE: Final = re.compile(r"(s3|gs):(?:/+(.*?))?/*")
_AGAIN: Final = "and run the study again"
_SILENT: Final = "it does not answer"
_CAUSES: Final = (  # what the store says, in our words, and the way out
    (
        r"OAuth2|default credentials",
        "no credentials are found",
        f"Set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud, {_AGAIN}",
    ),
    (
        r"NO_SUCH_BUCKET|Bucket '.*' not found|bucket does not exist",
        "there is no such bucket",
        "Make it, or mend the root",
    ),
    (
        r"EXPIRED|Expired|INVALID_ACCESS_KEY|InvalidAccessKey|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT"
        r"|InvalidToken|UNAUTHENTICATED|Invalid Credentials",
        "its credentials are refused",
        f"Renew them, {_AGAIN}",
    ),
    (
        r"ACCESS_DENIED|Access Denied|PERMISSION_DENIED|HTTP status 403|HTTP response code 403",
        "access is denied",
        f"Allow these credentials to read, write, list and delete there, {_AGAIN}",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|REQUEST_TIMEOUT|UNAVAILABLE|DEADLINE_EXCEEDED|Retry policy exhausted",
        _SILENT,
        f"See to the network, and to AWS_ENDPOINT_URL where that is set, {_AGAIN}",
    ),
)
_KEYS: Final = (  # one of these says where S3 credentials come from, if not from the machine's role
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_SET_KEYS: Final = f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, {_AGAIN}"
_Name = TypeVar("_Name")
_Found = TypeVar("_Found")
MANIFEST: Final = "manifest.json"  # of the tables that a compaction merged
MERGED_FOLDER: Final = "compacted"


class StoreError(StudyError):
    """An object store that cannot be used now."""


@dataclass(frozen=True)
class Stored:
    """An object: its bytes, and when the store took it in."""

    bytes: int
    time_ns: int


def uri_of(place: str | os.PathLike[str]) -> str | None:
    """The URI of a place in an object store, or None for a folder; a `Path` made of one has lost a slash."""
    found = _PLACE.fullmatch(os.fspath(place))
    return f"{found[1]}://{found[2] or ''}" if found else None


class Remote:
    """A folder in an object store. Raises `StudyError` for a URI with credentials or parameters in it.

    Every method raises `StoreError` where the store cannot be reached or refuses.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, path = uri.partition("://")
        if re.search(r"[@?#]", path):
            raise StudyError(
                f"--root: must hold no credentials and no parameters, got one in {scheme}://***. Credentials come "
                "from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
                "GOOGLE_APPLICATION_CREDENTIALS) or the machine's role, the address of another store from "
                "AWS_ENDPOINT_URL"
            )
        if not path.partition("/")[0]:
            raise StudyError(f"--root: must be {scheme}://BUCKET/PREFIX, got {uri!r}")
        self.uri, self._scheme, self._path = uri, scheme, path

    def __str__(self) -> str:
        return self.uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    @property
    def name(self) -> str:
        """The last part of its path: of a study its name."""
        return self._path.rpartition("/")[2]

    def path(self, name: str) -> str:
        """An object as `filesystem` names it."""
        return f"{self._path}/{name}"

    @functools.cached_property
    def filesystem(self) -> Any:
        """The store as Arrow's readers take it."""
        from pyarrow import fs

        if self._scheme == "gs":
            return fs.GcsFileSystem(retry_time_limit=datetime.timedelta(seconds=ATTEMPTS * REQUEST_TIMEOUT_S))
        return fs.S3FileSystem(**self._s3_options)

    @functools.cached_property
    def _writing_small(self) -> Any:
        """The store, where an object is written in one request when it is closed; not for one of several parts.

        Of these the first that failed would be taken for the whole object when the stream is thrown away.
        """
        from pyarrow import fs

        return self.filesystem if self._scheme == "gs" else fs.S3FileSystem(**self._s3_options, allow_delayed_open=True)

    @functools.cached_property
    def _s3_options(self) -> dict[str, Any]:
        from pyarrow import fs

        return {
            **self._address(fs),
            "connect_timeout": CONNECT_TIMEOUT_S,
            "request_timeout": REQUEST_TIMEOUT_S,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        }

    def _address(self, fs: Any) -> dict[str, str]:
        """Endpoint and region of S3, or of a store that speaks its language."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            with self._explained():
                return {"region": fs.resolve_s3_region(self._path.partition("/")[0])}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        scheme, _, host = endpoint.rpartition("://")
        return {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https", "region": region}

    # ---- objects --------------------------------------------------------------------------------------------------

    def put(self, name: str, content: Path | bytes) -> None:
        """Write an object, in place of the one that is there."""
        payload = content if isinstance(content, bytes) else content.read_bytes()
        with self._explained():
            store = self._writing_small if len(payload) <= SMALL_BYTES else self.filesystem
            stream = store.open_output_stream(self.path(name))
            stream.write(payload)
            stream.close()  # not where writing failed: it would make an object of what is there

    def get(self, name: str) -> bytes | None:
        """What an object holds, None where there is none."""
        try:
            with self.reading(name) as stream:
                return bytes(stream.read(stream.size()))  # all in one request
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """An object as a file of bytes. Raises `FileNotFoundError`."""
        with self._explained(), self.filesystem.open_input_file(self.path(name)) as stream:
            yield stream

    def objects(self, folder: str = "") -> dict[str, Stored]:
        """Every object below a folder, by name; none where there is no such folder."""
        return {
            info.path[len(self._path) + 1 :]: Stored(info.size, info.mtime_ns or 0)
            for info in self._infos(folder, recursive=True)
            if info.is_file
        }

    def folders(self) -> list[str]:
        """The names of the folders in it, sorted."""
        if self._scheme == "gs":  # Arrow lists no folders there that nobody made
            return sorted({name.partition("/")[0] for name in self.objects() if "/" in name})
        return sorted(info.base_name for info in self._infos("", recursive=False) if not info.is_file)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, those that are there."""
        at_once(self._remove, names)

    def remove_folder(self, folder: str) -> None:
        """Remove everything below a folder."""
        if self.objects(folder):
            with self._explained(), contextlib.suppress(FileNotFoundError):
                self.filesystem.delete_dir(self.path(folder))

    def _remove(self, name: str) -> None:
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def _infos(self, folder: str, *, recursive: bool) -> Any:
        from pyarrow import fs

        where = self.path(folder).rstrip("/")
        with self._explained():
            return self.filesystem.get_file_info(fs.FileSelector(where, recursive=recursive, allow_not_found=True))

    # ---- files and objects ----------------------------------------------------------------------------------------

    def push(self, files: Mapping[str, Path]) -> None:
        """Write files as objects of these names, several at once."""
        at_once(lambda name: self.put(name, files[name]), files)

    def pull(self, files: Mapping[str, Path]) -> None:
        """Write objects of these names into files, each whole or not at all; one that is gone raises `StoreError`."""
        at_once(lambda name: self._pull(name, files[name]), files)

    def _pull(self, name: str, file: Path) -> None:
        content = self.get(name)
        if content is None:
            raise StoreError(f"{self.uri}/{name} was removed while it was read. Let only one driver run the study")
        file.parent.mkdir(parents=True, exist_ok=True)
        replace(file, content)

    # ---- whether it can be used -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `StoreError` where this machine cannot write, read and remove objects here."""
        name, word = f"{PROOF}{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
        self.put(name, word)
        if self.get(name) != word:
            raise StoreError(f"{self.uri} does not give back what is written to it. Use a store that does")
        self.remove([name])

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what Arrow's readers raise of the store into a `StoreError`; a damaged file stays their error."""
        try:
            yield
        except OSError as problem:
            if _cause(str(problem)) is None:
                raise
            raise self._error(problem) from None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as problem:  # Arrow's exceptions are of these kinds
            raise self._error(problem) from None

    def _error(self, problem: Exception) -> StoreError:
        reason = _short(str(problem))
        words, way_out = _cause(reason) or (reason, f"Mend it, {_AGAIN}")
        if "denied" in words and self._scheme == "s3" and not _has_keys():
            words, way_out = "access is denied, and no credentials are found", _SET_KEYS
        detail = f": {reason.rpartition('Details: ')[2]}" if words == _SILENT else ""
        return StoreError(f"{self.uri} cannot be used ({words}{detail}). {way_out}")


def replace(file: Path, content: bytes) -> None:
    """Write a file that others may read or write at the same moment; nothing is synced, for the store has it too."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    beside.write_bytes(content)
    os.replace(beside, file)


def at_once(do: Callable[[_Name], _Found], names: Iterable[_Name]) -> list[_Found]:
    """Do something with several names at a time; raises the first error."""
    names = list(names)
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(TRANSFERS) as threads:
        return list(threads.map(do, names))


def _cause(reason: str) -> tuple[str, str] | None:
    return next(((words, way_out) for pattern, words, way_out in _CAUSES if re.search(pattern, reason)), None)


def _short(reason: str) -> str:
    """The part of an error that says what happened, without what was asked for and the request's number."""
    first = " ".join(reason.split())
    _, _, own = first.partition("AWS Error ")
    return re.sub(r" \(Request ID: .*?\)|\.? Detail:.*", "", own or first).rstrip(". :")[:200]


def _has_keys() -> bool:
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    named = [Path(os.environ.get(name) or Path("~/.aws", file)).expanduser() for name, file in files]
    return any(map(os.environ.get, _KEYS)) or any(file.is_file() for file in named)
