"""A folder in an object store, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX: whole objects put, read, listed, removed.

Only this module uses `pyarrow.fs`. An object appears whole or not at all. Credentials are found as by the providers'
own programs, in the environment, in profiles and from the machine's role, and are never part of the URI.
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
REQUEST_TIMEOUT_S: Final = 5.0  # without any byte from the store
ATTEMPTS: Final = 3
TRANSFERS: Final = 8  # in parallel
SMALL_BYTES: Final = 4 << 20  # objects up to this size are written in one request
PROOF: Final = ".preflight-"  # prefix of the objects that are written as a test
_PLACE: Final = re.compile(r"(s3|gs):(?:/+(.*?))?/*")
_AGAIN: Final = "and run the study again"
_SILENT: Final = "it does not answer"
_CAUSES: Final = (  # pattern in the error of the store, its cause, the way out
    (
        r"OAuth2|default credentials",
        "no credentials are found",
        f"Set GOOGLE_APPLICATION_CREDENTIALS, or log in with gcloud, {_AGAIN}",
    ),
    (
        r"NO_SUCH_BUCKET|Bucket '.*' not found|bucket does not exist",
        "there is no such bucket",
        "Create it, or correct --root",
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
        f"Check the network, and AWS_ENDPOINT_URL where that is set, {_AGAIN}",
    ),
)
_KEYS: Final = (  # variables that give S3 credentials; otherwise the machine's role does
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_SET_KEYS: Final = f"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, {_AGAIN}"
_Name = TypeVar("_Name")
_Result = TypeVar("_Result")
MANIFEST: Final = "manifest.json"  # names the merged files of a compaction
MERGED_FOLDER: Final = "compacted"


class StoreError(StudyError):
    """An object store that cannot be used now."""


@dataclass(frozen=True)
class Stored:
    """An object: its size in bytes, and when it was stored, in ns."""

    bytes: int
    time_ns: int


def uri_of(place: str | os.PathLike[str]) -> str | None:
    """Return the URI of a place in an object store, None for a folder; `Path("s3:/BUCKET")` is understood too."""
    match = _PLACE.fullmatch(os.fspath(place))
    return f"{match[1]}://{match[2] or ''}" if match else None


class Remote:
    """A folder in an object store. Raises `StudyError` for a URI with credentials or parameters in it.

    Every method raises `StoreError` where the store cannot be reached or refuses the request.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, path = uri.partition("://")
        if re.search(r"[@?#]", path):
            raise StudyError(
                f"--root: must hold no credentials and no parameters, got some in {scheme}://***. Credentials come "
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
        """Return the last part of the path: the name of a study."""
        return self._path.rpartition("/")[2]

    def path(self, name: str) -> str:
        """Return the path of an object in `filesystem`."""
        return f"{self._path}/{name}"

    @functools.cached_property
    def filesystem(self) -> Any:
        """Return the store as an Arrow file system."""
        from pyarrow import fs

        if self._scheme == "gs":
            return fs.GcsFileSystem(retry_time_limit=datetime.timedelta(seconds=ATTEMPTS * REQUEST_TIMEOUT_S))
        return fs.S3FileSystem(**self._s3_options)

    @functools.cached_property
    def _writing_small(self) -> Any:
        """Return the store as a file system that writes an object in one request, when its stream is closed.

        It is not for objects of several parts: after an error the parts written so far would become the object.
        """
        from pyarrow import fs

        return self.filesystem if self._scheme == "gs" else fs.S3FileSystem(**self._s3_options, allow_delayed_open=True)

    @functools.cached_property
    def _s3_options(self) -> dict[str, Any]:
        """Return the options of S3, or of a store with the same protocol: endpoint, region, how long to wait."""
        from pyarrow import fs

        options = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "request_timeout": REQUEST_TIMEOUT_S,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        }
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            with self.explained():
                return {**options, "region": fs.resolve_s3_region(self._path.partition("/")[0])}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        scheme, _, host = endpoint.rpartition("://")
        return {**options, "endpoint_override": host.rstrip("/"), "scheme": scheme or "https", "region": region}

    # ---- objects --------------------------------------------------------------------------------------------------

    def put(self, name: str, content: Path | bytes) -> None:
        """Write an object; an existing one is replaced."""
        payload = content if isinstance(content, bytes) else content.read_bytes()
        with self.explained():
            store = self._writing_small if len(payload) <= SMALL_BYTES else self.filesystem
            stream = store.open_output_stream(self.path(name))
            stream.write(payload)
            stream.close()  # not after an error: closing would store the torn object

    def get(self, name: str) -> bytes | None:
        """Return the content of an object, None where there is none."""
        try:
            with self.reading(name) as stream:
                return bytes(stream.read(stream.size()))  # in one request
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Open an object as a binary file. Raises `FileNotFoundError` where there is none."""
        with self.explained(), self.filesystem.open_input_file(self.path(name)) as stream:
            yield stream

    def objects(self, folder: str = "") -> dict[str, Stored]:
        """Return every object below a folder, by name; none where there is no such folder."""
        return {
            info.path[len(self._path) + 1 :]: Stored(info.size, info.mtime_ns or 0)
            for info in self._infos(folder, recursive=True)
            if info.is_file
        }

    def folders(self) -> list[str]:
        """Return the names of its folders, sorted."""
        if self._scheme == "gs":  # there Arrow lists only folders that were created
            return sorted({name.partition("/")[0] for name in self.objects() if "/" in name})
        return sorted(info.base_name for info in self._infos("", recursive=False) if not info.is_file)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; missing ones are ignored."""
        at_once(self._remove, names)

    def remove_folder(self, folder: str) -> None:
        """Remove everything below a folder."""
        if self.objects(folder):
            with self.explained(), contextlib.suppress(FileNotFoundError):
                self.filesystem.delete_dir(self.path(folder))

    def _remove(self, name: str) -> None:
        with self.explained(), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def _infos(self, folder: str, *, recursive: bool) -> Any:
        from pyarrow import fs

        where = self.path(folder).rstrip("/")
        with self.explained():
            return self.filesystem.get_file_info(fs.FileSelector(where, recursive=recursive, allow_not_found=True))

    # ---- files and objects ----------------------------------------------------------------------------------------

    def push(self, files: Mapping[str, Path]) -> None:
        """Write files as objects with these names, several in parallel."""
        at_once(lambda name: self.put(name, files[name]), files)

    def pull(self, files: Mapping[str, Path]) -> None:
        """Write objects with these names into files, each whole or not at all.

        Raises `StoreError` for a missing one.
        """

        def pull(name: str) -> None:
            content = self.get(name)
            if content is None:
                raise StoreError(f"{self.uri}/{name} was removed while it was read. Let only one driver run the study")
            files[name].parent.mkdir(parents=True, exist_ok=True)
            replace(files[name], content)

        at_once(pull, files)

    # ---- whether it can be used -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `StoreError` where this machine cannot write, read and remove objects here."""
        name, word = f"{PROOF}{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
        self.put(name, word)
        if self.get(name) != word:
            raise StoreError(f"{self.uri} does not return what was written to it. Use another store")
        self.remove([name])

    @contextlib.contextmanager
    def explained(self, *, reads_files: bool = False) -> Iterator[None]:
        """Turn errors of the store into `StoreError`, but for those about missing objects.

        `reads_files`: Arrow's readers raise errors about damaged files, too, and these stay.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as problem:  # Arrow's exceptions are of these kinds
            if reads_files and _cause(str(problem)) is None:
                raise
            raise self._error(problem) from None

    def _error(self, problem: Exception) -> StoreError:
        reason = _short(str(problem))
        words, way_out = _cause(reason) or (reason, f"Fix the cause, {_AGAIN}")
        if "denied" in words and self._scheme == "s3" and not _has_keys():
            words, way_out = "access is denied, and no credentials are found", _SET_KEYS
        detail = f": {reason.rpartition('Details: ')[2]}" if words == _SILENT else ""
        return StoreError(f"{self.uri} cannot be used ({words}{detail}). {way_out}")


def replace(file: Path, content: bytes) -> None:
    """Write a file that others may read or write meanwhile. It is not synced, as the store has it too."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    beside.write_bytes(content)
    os.replace(beside, file)


def at_once(do: Callable[[_Name], _Result], names: Iterable[_Name]) -> list[_Result]:
    """Return the results of `do` for each name, several in parallel. Raises the first error."""
    names = list(names)
    if len(names) < 2:
        return [do(name) for name in names]
    with ThreadPoolExecutor(TRANSFERS) as threads:
        return list(threads.map(do, names))


def _cause(reason: str) -> tuple[str, str] | None:
    return next(((words, way_out) for pattern, words, way_out in _CAUSES if re.search(pattern, reason)), None)


def _short(reason: str) -> str:
    """Return the cause in an error message, without the request and its number, in at most 200 characters."""
    line = " ".join(reason.split())
    _, _, aws_error = line.partition("AWS Error ")
    return re.sub(r" \(Request ID: .*?\)|\.? Detail:.*", "", aws_error or line).rstrip(". :")[:200]


def _has_keys() -> bool:
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    paths = [Path(os.environ.get(name) or Path("~/.aws", file)).expanduser() for name, file in files]
    return any(map(os.environ.get, _KEYS)) or any(path.is_file() for path in paths)
