"""A stand-in for a Kubernetes API server and KubeRay's operator: just what pinnsweep asks of them, over plain HTTP.

RayJobs are checked against the published resource definition, and their entrypoints run as processes of this machine:
the folder that the head would see mounted is made in a temporary one.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

from cluster import Executor, executor_of
from cluster.kubernetes.profile import KubernetesProfile

from ..waiting import WAIT_S

NAMESPACE = "studies"
CRD = Path(__file__).parent / "data" / "rayjob-crd.yaml"
Json = dict[str, Any]


@contextlib.contextmanager
def kubernetes_place(folder: Path) -> Iterator[Callable[[], Executor]]:
    """A place for jobs; what it gives makes a new client of the same place each time."""
    with StandIn(folder) as place:
        yield lambda: executor_of(place.profile(stop_grace_s=2), "test")


@functools.cache
def rayjob_schema() -> Json:
    """The schema of RayJob as the API server applies it in strict validation: no fields but those it names."""
    definition = yaml.safe_load(CRD.read_text())
    return closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def closed(schema: Any, name: str = "") -> Any:
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value, key) for key, value in schema.items()}
    is_object = "properties" in inner and name != "properties"
    return {**inner, "additionalProperties": False} if is_object else inner


def rayjob_errors(rayjob: Mapping[str, Any]) -> list[tuple[int, str]]:
    """What the API server would say of a RayJob: HTTP status and message."""
    errors = []
    for error in jsonschema.Draft202012Validator(rayjob_schema()).iter_errors(rayjob):
        place = ".".join(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            unknown = sorted(set(error.instance) - set(error.schema["properties"]))
            errors += [(400, f'strict decoding error: unknown field "{place}.{field}"') for field in unknown]
        else:
            errors.append((422, f"RayJob.ray.io is invalid: {place}: {error.message}"))
    return errors


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn:
    """The server and what it holds; its plain attributes are for tests to change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = "right"
        self.groups = {"ray.io": ["v1"], "kueue.x-k8s.io": ["v1beta1"]}
        self.allowed = True
        self.present = {("persistentvolumeclaims", "claim"), ("secrets", "s3"), ("localqueues", "team")}
        self.hidden: set[str] = set()  # kinds of objects this user may not read
        self.refused: dict[str, Refusal] = {}  # kinds of objects that cannot be created
        self.cut_after_lines: int | None = None  # break the next connection for a log
        self.jobs: dict[str, Running] = {}
        self.config_maps: dict[str, Json] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in list(self.jobs.values()):
            job.delete(grace_s=0)
        self._server.shutdown()
        self._thread.join(WAIT_S)
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def profile(self, **settings: Any) -> KubernetesProfile:
        """A profile that leads here, by a kubeconfig with the right token."""
        config = self.folder / "kubeconfig.yaml"
        if not config.exists():
            config.parent.mkdir(parents=True, exist_ok=True)
            context = {"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "elsewhere"}}
            content = {
                "clusters": [{"name": "lab", "cluster": {"server": self.address}}],
                "users": [{"name": "me", "user": {"token": self.token}}],
                "contexts": [context],
                "current-context": "lab",
            }
            config.write_text(yaml.safe_dump(content))
        given = {
            "root": "s3://bucket/studies",
            "image": "pinnsweep:1",
            "namespace": NAMESPACE,
            "kubeconfig": str(config),
        }
        return KubernetesProfile(**{**given, **settings})

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Json) -> Json:
        """The object that the API server would answer with. Raises `Refusal`."""
        words = path.strip("/").split("/")
        if path == "/apis/":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*self._groups()]}
        if words[-1] == "selfsubjectaccessreviews":
            return {**body, "status": {"allowed": self.allowed}}
        namespace, kind, name = (*words[words.index("namespaces") + 1 :], "")[:3]
        if kind in self.hidden:
            raise Refusal(403, f'{kind} "{name}" is forbidden: User "me" cannot get resource "{kind}"')
        if namespace != NAMESPACE:
            raise Refusal(404, f'namespaces "{namespace}" not found')
        if method == "POST":
            if kind in self.refused:
                raise self.refused[kind]
            return getattr(self, f"_create_{kind}")(body, is_dry=query.get("dryRun") == "All")
        if kind == "pods":
            wanted = query["labelSelector"].removeprefix("job-name=")
            return {
                "kind": "PodList",
                "items": [job.pod for job in self.jobs.values() if job.name == wanted and job.pod],
            }
        if kind == "rayjobs" and not name:
            assert query["labelSelector"] == "app.kubernetes.io/managed-by=pinnsweep"
            return {"kind": "RayJobList", "items": [job.rayjob for job in self.jobs.values()]}
        if kind == "rayjobs" and (job := self.jobs.get(name)):
            if method == "DELETE":
                assert query["propagationPolicy"] == "Foreground"
                threading.Thread(target=job.delete).start()
            return job.rayjob
        if (kind, name) in self.present:
            return {"kind": kind, "metadata": {"name": name}}
        raise Refusal(404, f'{kind} "{name}" not found')

    def _groups(self) -> Iterator[Json]:
        for group, versions in self.groups.items():
            served = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
            yield {"name": group, "versions": served, "preferredVersion": served[0]}

    def _create_rayjobs(self, rayjob: Json, *, is_dry: bool) -> Json:
        for status, message in rayjob_errors(rayjob):
            raise Refusal(status, message)
        made = {"uid": os.urandom(8).hex(), "creationTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        rayjob = {**rayjob, "metadata": {**rayjob["metadata"], **made}}
        if not is_dry:
            job = self.jobs[rayjob["metadata"]["name"]] = Running(self, rayjob)
            threading.Thread(target=job.run).start()
        return rayjob

    def _create_configmaps(self, config_map: Json, *, is_dry: bool) -> Json:
        for key in (*config_map["data"], *config_map["binaryData"]):
            if not re.fullmatch(r"[-._a-zA-Z0-9]+", key):
                raise Refusal(422, f"ConfigMap is invalid: {key}")
        (owner,) = config_map["metadata"]["ownerReferences"]
        assert owner["uid"] == self.jobs[owner["name"]].rayjob["metadata"]["uid"]
        self.config_maps[config_map["metadata"]["name"]] = config_map
        return config_map


class Running:
    """One RayJob in the hands of the operator."""

    def __init__(self, place: StandIn, rayjob: Json) -> None:
        self.rayjob, self.place, self.name = rayjob, place, rayjob["metadata"]["name"]
        self.pod: Json | None = None
        self.lines: list[tuple[str, bytes]] = []  # time stamp and content
        self.grace_s = float("inf")
        self.process: subprocess.Popen[bytes] | None = None
        self.deleted = threading.Event()
        self.stopped = threading.Event()  # nothing of it runs any more, nor will

    def set(self, deployment: str, job: str = "", reason: str = "", message: str = "") -> None:
        status = {"jobDeploymentStatus": deployment, "jobStatus": job, "reason": reason, "message": message}
        self.rayjob = {**self.rayjob, "status": {key: value for key, value in status.items() if value}}

    def run(self) -> None:
        try:
            self._run()
        finally:
            self.stopped.set()

    def _run(self) -> None:
        spec = self.rayjob["spec"]
        if spec["suspend"]:
            self.set("Suspended")
            return
        self.set("Initializing")
        while self.name not in self.place.config_maps:
            if self.deleted.wait(0.01):
                return
        head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
        container = head["containers"][0]
        environment = {entry["name"]: entry["value"].replace("$$", "$") for entry in container["env"]}
        stop_wait_s = float(environment["RAY_JOB_STOP_WAIT_TIME_S"])
        self.grace_s = min(self.grace_s, stop_wait_s, head["terminationGracePeriodSeconds"])
        entrypoint = spec["entrypoint"].replace(*self._mounted(head, container))
        self.process = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                f"exec {entrypoint}",
            ],  # one process instead of two, so that it is known when it has ended
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stamp = {"name": f"{self.name}-abcde", "creationTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        self.pod = {"metadata": stamp, "spec": {"containers": []}}
        self.set("Running", "RUNNING")
        reader = threading.Thread(target=self._read)
        reader.start()
        deadline = time.monotonic() + spec.get("activeDeadlineSeconds", 10**6)
        while self.process.poll() is None and not self.deleted.wait(0.02) and time.monotonic() < deadline:
            pass
        is_late = time.monotonic() >= deadline
        self._stop()
        reader.join(WAIT_S)
        code = self.process.returncode
        if is_late:
            self.set("Failed", "RUNNING", "DeadlineExceeded", "The RayJob has passed the activeDeadlineSeconds.")
        elif code == 0:
            self.set("Complete", "SUCCEEDED")
        else:
            said = (
                f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):"
            )
            self.set("Failed", "FAILED", "AppFailed", f"{said}\n...")

    def _mounted(self, head: Json, container: Json) -> tuple[str, str]:
        """The ConfigMap's volume as a folder here: where the head would see it, and where it is."""
        (volume,) = [volume for volume in head["volumes"] if "configMap" in volume]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
        held = self.place.config_maps[volume["configMap"]["name"]]
        content = {key: text.encode() for key, text in held["data"].items()}
        content |= {key: base64.b64decode(text) for key, text in held["binaryData"].items()}
        folder = self.place.folder / "mounted" / self.name
        for item in volume["configMap"]["items"]:
            path = folder / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[item["key"]])
        return mount["mountPath"], shlex.quote(str(folder))

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        last_ns = 0
        for line in self.process.stdout:
            last_ns = max(time.time_ns(), last_ns + 1)
            self.lines.append((stamp_of(last_ns), line))

    def _stop(self) -> None:
        """As Ray stops a job: SIGTERM to all of its processes, and SIGKILL to those that do not heed it in time."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT_S)

    def delete(self, grace_s: float = float("inf")) -> None:
        self.grace_s = min(self.grace_s, grace_s)
        self.deleted.set()
        assert self.stopped.wait(WAIT_S)
        self.place.jobs.pop(self.name, None)
        self.place.config_maps.pop(self.name, None)  # it is owned by the RayJob


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, place: StandIn, *args: Any) -> None:
        self.place = place
        super().__init__(*args)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        self.place.requests.append(f"{self.command} {self.path}")
        try:
            if self.headers.get("Authorization") != f"Bearer {self.place.token}":
                raise Refusal(401, "Unauthorized")
            if parts.path.endswith("/log"):
                self._log(parts.path.split("/")[-2].removesuffix("-abcde"), query)
                return
            answer = self.place.answer(self.command, parts.path, query, body)
            self._send(201 if self.command == "POST" else 200, answer)
        except Refusal as refusal:
            self._send(refusal.status, {"kind": "Status", "status": "Failure", "message": str(refusal)})

    do_POST = do_DELETE = do_GET

    def _send(self, status: int, content: Json) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _log(self, name: str, query: Mapping[str, str]) -> None:
        assert query["timestamps"].lower() == "true" and query["container"] == "ray-job-submitter"
        if name not in self.place.jobs:
            raise Refusal(404, f'pods "{name}-abcde" not found')
        job = self.place.jobs[name]
        cut, self.place.cut_after_lines = self.place.cut_after_lines, None
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told = 0
        while True:
            is_last = query["follow"].lower() != "true" or job.stopped.is_set()
            for stamp, line in job.lines[told:]:
                if told == cut:  # in the middle of a line
                    self._chunk(f"{stamp} {line.decode()[:3]}".encode())
                    self.close_connection = True
                    return
                self._chunk(f"{stamp} ".encode() + line)
                told += 1
            if is_last:
                self._chunk(b"")
                return
            time.sleep(0.01)

    def _chunk(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Tests look at `requests` instead."""


def stamp_of(time_ns: int) -> str:
    """A time as the kubelet writes it before a line of a log."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
