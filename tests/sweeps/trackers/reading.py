"""What the trackers hold, read back with their own libraries, and a webhook on this machine."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7  # bytes of LevelDB's log format, in which W&B writes


@dataclass
class Read:
    """A run as a tracker has it; `curves` are values by evaluations."""

    name: str
    state: str
    settings: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, dict[int, float]] = field(default_factory=dict)


def of_tensorboard(folder: Path) -> dict[str, Read]:
    """Return the runs below a log folder by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    runs = {}
    for file in folder.rglob("events.out.*"):
        events = EventAccumulator(str(file.parent))
        events.Reload()
        name, scalars = str(file.parent.relative_to(folder)), events.Tags()["scalars"]
        curves = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in scalars if tag.startswith("curves/")}
        metrics = {tag: events.Scalars(tag)[-1].value for tag in scalars if tag not in curves}
        content = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
        given = content.session_start_info.hparams.items()
        settings = {key: str(getattr(value, value.WhichOneof("kind"))) for key, value in given}
        (text,) = (e.tensor_proto.string_val[0].decode() for e in events.Tensors("trial/text_summary"))
        state = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines()[2:])["state"]
        assert name not in runs
        runs[name] = Read(name, state, settings, metrics, curves)
    return runs


def of_mlflow(uri: str, experiment: str) -> dict[str, Read]:
    """Return the runs of an experiment by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = {}
    for run in client.search_runs([found.experiment_id]):
        name, metrics = run.info.run_name, run.data.metrics
        curves = {
            tag: {m.step: m.value for m in client.get_metric_history(run.info.run_id, tag)}
            for tag in metrics
            if tag.startswith("curves/")
        }
        assert name not in runs
        assert run.info.status == {"COMPLETE": "FINISHED", "FAIL": "FAILED", "PRUNED": "KILLED"}[run.data.tags["state"]]
        own = {tag: value for tag, value in metrics.items() if tag not in curves}
        runs[name] = Read(name, run.data.tags["state"], run.data.params, own, curves)
    return runs


def of_wandb(folder: Path) -> dict[str, Read]:
    """Return the offline runs in a folder by name, read from the files that `wandb sync` sends."""
    runs = {}
    for file in folder.glob("offline-run-*/run-*.wandb"):
        read = Read("", "", {}, {})
        for record in _wandb_records(file.read_bytes()):
            _add_record(read, record)
        assert read.name not in runs
        read.metrics = {name: value for name, value in read.metrics.items() if not name.startswith(("curves/", "_"))}
        runs[read.name] = read
    return runs


def _add_record(read: Read, record: Any) -> None:
    if record.HasField("run") and record.run.display_name:
        read.name = record.run.display_name
        (read.state,) = record.run.tags
    if record.HasField("run"):
        values = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        read.settings |= {key: str(value) for key, value in values.items() if key != "_wandb"}
    if record.HasField("history"):
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for name in (name for name in row if name.startswith("curves/")):
            read.curves.setdefault(name, {})[row["evaluations"]] = row[name]
    if record.HasField("summary"):
        items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update}
        read.metrics |= {key: value for key, value in items.items() if isinstance(value, (int, float))}


def _wandb_records(content: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    position, parts = HEADER, b""  # after the head of the file
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        parts += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


@dataclass
class Webhook:
    """A server of this machine: the bodies it got, and the status codes of its next answers (then 200)."""

    address: str
    codes: list[int] = field(default_factory=list)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    requests: int = 0


@contextmanager
def webhook(*codes: int) -> Iterator[Webhook]:
    """Serve a webhook whose address ends with a secret."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.requests += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = served.codes.pop(0) if served.codes else 200
            if code == 200:
                assert self.headers["Content-Type"] == "application/json"
                served.bodies.append(body)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Webhook(f"http://127.0.0.1:{server.server_port}/services/s3cret", list(codes))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
