"""Delivery of a notice to a webhook of this machine, and to programs that answer, fail and hang."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.spec.sections import NotifySettings
from sweeps.trackers import delivery
from sweeps.trackers.delivery import address_of, post, start
from sweeps.trackers.notifier import Notifier

from .reading import webhook

NOTICE: dict[str, Any] = {"event": "end", "reason": "finished", "study": "s", "text": "s has finished.", "counts": {}}


def no_pause(seconds: float) -> None:
    """Wait for nothing between two attempts."""


@pytest.mark.parametrize("codes", [(), (500,), (503, 429)])
def test_a_webhook_gets_the_notice_once_it_answers(codes: tuple[int, ...]) -> None:
    with webhook(*codes) as served:
        assert post(served.address, NOTICE, sleep=no_pause) == ""
    assert served.bodies == [NOTICE]
    assert served.requests == len(codes) + 1


@pytest.mark.parametrize(
    ("codes", "requests", "words"),
    [((404,), 1, "answered 404"), ((500, 502, 503), 3, "answered 503"), ((403,), 1, "answered 403")],
)
def test_a_refusal_is_one_sentence_without_the_address(codes: tuple[int, ...], requests: int, words: str) -> None:
    with webhook(*codes) as served:
        trouble = post(served.address, NOTICE, sleep=no_pause)
    assert words in trouble and "s3cret" not in trouble
    assert served.bodies == [] and served.requests == requests


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/s3cret", "http://127.0.0.1:99999/s3cret", "http://[/s3cret"])
def test_a_webhook_out_of_reach_is_one_sentence_without_the_address(address: str) -> None:
    trouble = post(address, NOTICE, sleep=no_pause)
    assert trouble.startswith("the webhook cannot be reached (") and "s3cret" not in trouble


def test_an_address_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT", " https://chat.example/x\n")
    assert address_of("env:CHAT") == "https://chat.example/x"
    assert address_of("https://chat.example/y") == "https://chat.example/y"


def script(folder: Path, code: str) -> list[str]:
    file = folder / "told.py"
    file.write_text(f"import json, os, sys, time\n{code}\n")
    return [sys.executable, str(file)]


def test_a_program_gets_the_notice_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    code = f"""
told = {{name: value for name, value in os.environ.items() if name.startswith("PINNSWEEP_")}}
open({str(tmp_path / "told")!r}, "w").write(json.dumps([json.load(sys.stdin), told]))
"""
    assert start(script(tmp_path, code), NOTICE) == ""
    notice, variables = json.loads((tmp_path / "told").read_text())
    assert notice == NOTICE
    assert variables == {
        "PINNSWEEP_EVENT": "end",
        "PINNSWEEP_REASON": "finished",
        "PINNSWEEP_STUDY": "s",
        "PINNSWEEP_TEXT": "s has finished.",
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('mail: no\\nsuch user', file=sys.stderr); sys.exit(3)", "ended with exit code 3 (such user)"),
        ("time.sleep(60)", "did not end within 0.5 s"),
        ("sys.stdin.close()", ""),
    ],
)
def test_a_program_that_fails_or_hangs_is_one_sentence(tmp_path: Path, code: str, words: str) -> None:
    begun = time.monotonic()
    assert words in start(script(tmp_path, code), NOTICE, timeout_s=0.5 if "sleep" in code else 60)
    assert time.monotonic() - begun < 55


def test_a_program_that_is_not_there() -> None:
    assert "cannot be started (No such file or directory)" in start(["/nowhere/mail"], NOTICE)


def test_a_notifier_delivers_in_order_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = script(tmp_path, f"open({str(tmp_path / 'told')!r}, 'a').write(os.environ['PINNSWEEP_EVENT'] + ' ')")
    command = shlex.join(words)
    monkeypatch.setattr(delivery, "PAUSES_S", (0.0, 0.0))
    with webhook(404) as served:
        monkeypatch.setenv("CHAT", served.address)
        notifier = Notifier(NotifySettings(command=command, webhook="env:CHAT", on=("end", "target")))
        for event in ("target", "failure", "end"):
            notifier.tell({**NOTICE, "event": event})
        notifier.finish()
        assert notifier.wait(60)
    assert (tmp_path / "told").read_text() == "target end "
    assert [body["event"] for body in served.bodies] == ["end"]
    trouble = notifier.troubles.get_nowait()
    assert trouble == "the notification of the event target failed: the webhook answered 404 Not Found"
    assert notifier.troubles.empty()
