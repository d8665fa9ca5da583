"""Joining a cluster: authentication is blamed where it is at fault, and only there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import ray

from sweeps.errors import StudyError
from sweeps.runner import driver, joining
from sweeps.runner.joining import MODE, refuse_other_authentication, refuse_silent_address

TOKEN = "Bearer 0123456789abcdef"
Heads = Callable[[str | None], str]


@pytest.fixture
def head() -> Iterator[Heads]:
    """Return a function that starts what answers as a head, with a token or without, and returns its address."""
    servers = []

    def start(token: str | None) -> str:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if token is not None and dict(context.invocation_metadata()).get("authorization") != token:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        handler = grpc.unary_unary_rpc_method_handler(answer)
        server = grpc.server(ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", {"CheckAlive": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the mode and the token of this process."""

    def have(mode: str, token: Mapping[str, str] | None = None) -> None:
        monkeypatch.setenv(MODE, mode)
        monkeypatch.setattr(joining, "_own_token", lambda: token or {})

    return have


def test_the_same_authentication_on_both_sides_is_accepted(head: Heads, has: Any) -> None:
    has("token", {"Authorization": TOKEN})
    refuse_other_authentication(head(TOKEN))
    has("disabled")
    refuse_other_authentication(head(None))


def test_a_cluster_without_authentication_is_said_to_have_none(head: Heads, has: Any) -> None:
    has("token", {"Authorization": TOKEN})
    with pytest.raises(StudyError, match=r"has authentication off: set RAY_AUTH_MODE=disabled to join it$"):
        refuse_other_authentication(head(None))


@pytest.mark.parametrize(
    ("mode", "token"), [("token", {}), ("token", {"Authorization": "Bearer another"}), ("disabled", {})]
)
def test_a_cluster_with_a_token_is_said_to_require_it(
    head: Heads, has: Any, mode: str, token: Mapping[str, str]
) -> None:
    has(mode, token)
    with pytest.raises(StudyError, match=r"requires its token.* set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"):
        refuse_other_authentication(head(TOKEN))


def test_authentication_is_not_blamed_where_nothing_answers(has: Any) -> None:
    has("token", {"Authorization": TOKEN})
    refuse_other_authentication("127.0.0.1:1")
    with pytest.raises(StudyError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 ") as refused:
        refuse_silent_address("127.0.0.1:1")
    assert "AUTH" not in str(refused.value)


def test_authentication_is_not_blamed_where_a_worker_cannot_import() -> None:
    def get(reference: object) -> None:
        raise ray.exceptions.RaySystemError("ModuleNotFoundError: No module named 'optuna.distributions'")

    with pytest.raises(StudyError, match=r"could not be started on the cluster .*ModuleNotFoundError") as refused:
        driver._wait_begun(SimpleNamespace(get=get, exceptions=ray.exceptions), None)
    assert "uthentication" not in str(refused.value) and "AUTH" not in str(refused.value)
