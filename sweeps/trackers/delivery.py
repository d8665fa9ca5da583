"""Delivery of a notice: to a webhook, and to a program of the user's. Each returns why it failed, or nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cluster.hiding import visible_text

from ..spec.sections import FROM_ENVIRONMENT

WEBHOOK_S: Final = 5.0  # for one answer
PAUSES_S: Final = (1.0, 3.0)  # before the second and the third attempt
COMMAND_S: Final = 15.0
_WORTH_ANOTHER: Final = (408, 429)  # and every error of the server
_VARIABLES: Final = ("event", "reason", "study", "place", "text")

Notice = Mapping[str, Any]  # plain JSON values


def address_of(webhook: str) -> str:
    """Return the address of a webhook as study files write it, which may be in a variable of the environment."""
    if webhook.startswith(FROM_ENVIRONMENT):
        return os.environ.get(webhook.removeprefix(FROM_ENVIRONMENT), "").strip()
    return webhook


def post(address: str, notice: Notice, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Post a notice as JSON, up to three times; the address, which is a secret, is in no message."""
    body = json.dumps(notice).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "pinnsweep"}
    problem = ""
    for pause_s in (*PAUSES_S, None):
        try:
            request = urllib.request.Request(address, data=body, headers=headers, method="POST")
            with urllib.request.urlopen(request, timeout=WEBHOOK_S):
                return ""
        except urllib.error.HTTPError as error:
            problem = f"the webhook answered {error.code} {error.reason}"
            error.close()
            if error.code < 500 and error.code not in _WORTH_ANOTHER:
                return problem
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            kind = reason.strerror if isinstance(reason, OSError) and reason.strerror else type(reason).__name__
            problem = f"the webhook cannot be reached ({kind})"
        if pause_s is not None:
            sleep(pause_s)
    return problem


def start(words: Sequence[str], notice: Notice, *, timeout_s: float = COMMAND_S) -> str:
    """Run a program with a notice as JSON on its standard input and in PINNSWEEP_* variables; kill it after a time."""
    variables = {f"PINNSWEEP_{name.upper()}": str(notice[name]) for name in _VARIABLES if name in notice}
    program = visible_text(words[0])
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
            start_new_session=True,
        )
    except OSError as error:
        return f"{program} cannot be started ({error.strerror})"
    try:
        _, errors = process.communicate(json.dumps(notice).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"{program} did not end within {timeout_s:g} s"
    last = visible_text((errors.decode(errors="replace").strip().splitlines() or [""])[-1])[:200]
    return (
        f"{program} ended with exit code {process.returncode}{f' ({last})' if last else ''}"
        if process.returncode
        else ""
    )
