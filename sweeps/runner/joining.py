"""Joining a Ray cluster at an address: whether one answers there, with authentication as this process has it.

Ray itself waits for minutes where nothing answers, and starts no worker where only one side has authentication.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any, Final

from ..errors import StudyError

AUTO: Final = "auto"  # address of the cluster of RAY_ADDRESS, or of the one this machine belongs to
MODE: Final = "RAY_AUTH_MODE"
ADDRESS_TIMEOUT_S: Final = 5.0
_ALIVE: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # a question to a head that has no arguments


def refuse_silent_address(address: str) -> None:
    """Raise `StudyError` where nothing listens at an address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StudyError(
            "--address: must be HOST:PORT of a Ray head node (its port is 6379 by default), or auto for the cluster of "
            f"RAY_ADDRESS or of this machine, got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ADDRESS_TIMEOUT_S).close()
    except OSError as problem:
        raise no_cluster(address, problem.strerror or str(problem)) from None


def resolved(address: str) -> str:
    """Return HOST:PORT as a job of a cluster has it in its environment, empty where Ray looks on this machine."""
    place = os.environ.get("RAY_ADDRESS", "") if address == AUTO else address
    return "" if place == AUTO else place


def no_cluster(address: str, reason: str) -> StudyError:
    """Return the error of an address where no cluster answers."""
    return StudyError(
        f"no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, or omit --address to run "
        "on this machine"
    )


def refuse_other_authentication(address: str) -> None:
    """Raise `StudyError` where the head at HOST:PORT has authentication off or a token, and this process has not."""
    wants_token = _refuses(address, {})
    has_token = os.environ.get(MODE, "").lower() == "token"
    if wants_token is False and has_token:
        raise StudyError(f"the Ray cluster at {address} has authentication off: set {MODE}=disabled to join it")
    if wants_token and _refuses(address, _own_token()):
        raise StudyError(
            f"the Ray cluster at {address} requires its token, and there is none or another one here: set {MODE}=token "
            "and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head"
        )


def _refuses(address: str, token: Mapping[str, str]) -> bool | None:
    """Return whether the head at an address refuses a token as its own, None where no head answers."""
    import grpc

    metadata = [(name.lower(), value) for name, value in token.items()]
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_ALIVE)(b"", timeout=ADDRESS_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as problem:
            return True if problem.code() is grpc.StatusCode.UNAUTHENTICATED else None
    return False


def _own_token() -> Mapping[str, str]:
    """Return the header with the token that Ray finds in this process, which is empty where it finds none."""
    import ray

    with contextlib.suppress(Exception):  # where it finds none, or another version keeps it elsewhere
        private: Any = ray._raylet
        return private.AuthenticationTokenLoader.instance().get_token_for_http_header()
    return {}
