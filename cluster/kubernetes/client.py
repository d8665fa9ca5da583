"""The API server of a Kubernetes cluster, through the official Python client (an optional dependency)."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ..errors import ClusterError
from .manifest import GROUP, KUBERAY, VERSION
from .profile import KubernetesProfile

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 60.0
RAYJOBS: Final = {"group": GROUP, "version": VERSION, "plural": "rayjobs"}


class Refused(ClusterError):
    """A request that the API server refused; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(ClusterError):
    """An API server that does not answer."""


class KubernetesClient:
    """The API server of a profile. Every failure raises a `ClusterError` with a message of one line."""

    def __init__(self, profile: KubernetesProfile, name: str) -> None:
        self._profile, self._name = profile, name

    @functools.cached_property
    def package(self) -> Any:
        """Return the imported library. Raises `ClusterError` where it is not installed."""
        try:
            import kubernetes  # slow to import, and an optional dependency
        except ImportError:
            raise ClusterError(
                "jobs on Kubernetes need the Python package kubernetes: pip install 'pinnsweep[kubernetes]'"
            ) from None
        return kubernetes

    @functools.cached_property
    def client(self) -> Any:
        """Return the library's client for the profile's context. Raises `ClusterError` for an unusable kubeconfig."""
        configuration = self.package.client.Configuration()
        configuration.retries = False  # callers that wait ask again, and checks must fail at once
        file = self._profile.kubeconfig and str(Path(self._profile.kubeconfig).expanduser())
        try:
            return self.package.config.new_client_from_config(
                file, self._profile.context, persist_config=False, client_configuration=configuration
            )
        except (self.package.config.ConfigException, OSError, ValueError, yaml.YAMLError) as problem:
            raise ClusterError(
                f"{self._name}: the kubeconfig {file or '($KUBECONFIG or ~/.kube/config)'} does not provide "
                f"{context_of(self._profile)} ({_one_line(problem)}); see `kubectl config get-contexts`"
            ) from None

    @property
    def core(self) -> Any:
        """Return the API of pods, config maps and other core objects."""
        return self.package.client.CoreV1Api(self.client)

    @property
    def objects(self) -> Any:
        """Return the API of custom objects, such as RayJobs."""
        return self.package.client.CustomObjectsApi(self.client)

    def groups(self) -> dict[str, list[str]]:
        """Return the API groups of the server and their versions, the preferred version first."""
        groups = self.call(self.package.client.ApisApi(self.client).get_api_versions).groups
        return {
            group.name: sorted(
                (entry.version for entry in group.versions),
                key=lambda version: version != group.preferred_version.version,
            )
            for group in groups
        }

    def create_rayjob(self, rayjob: Mapping[str, Any], **options: str) -> dict[str, Any]:
        """Create a RayJob and return it as the API server has it.

        Field validation is strict, because an older KubeRay would drop fields that it does not know.
        """
        try:
            return dict(
                self.call_in_namespace(
                    self.objects.create_namespaced_custom_object,
                    **RAYJOBS,
                    body=rayjob,
                    field_validation="Strict",
                    **options,
                )
            )
        except Refused as problem:
            if "unknown field" in str(problem):
                raise ClusterError(f"{problem}; ask for {KUBERAY}, including its resource definitions") from None
            raise

    def call_in_namespace(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of the library with the profile's namespace and return its result."""
        return self.call(function, namespace=self._profile.namespace, **arguments)

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of the library and return its result. Raises `Refused` or `Unreachable`."""
        with self.plain_errors():
            return function(**{"_request_timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S), **arguments})

    def next_piece(self, pieces: Iterator[bytes]) -> bytes:
        """Return the next piece of a stream, or nothing at its end. Raises `Refused` or `Unreachable`."""
        with self.plain_errors():
            return next(pieces, b"")

    @contextlib.contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turn the library's exceptions into `Refused` and `Unreachable`, with a message of one line."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except HTTPError as problem:
            raise Unreachable(
                f"{self._name}: the API server at {self.client.configuration.host} does not answer "
                f"({_one_line(problem)}); check that `kubectl get pods` works on this machine"
            ) from None
        except ApiException as problem:
            raise Refused(f"{self._name}: {self._refusal(problem)}", int(problem.status or 0)) from None

    def _refusal(self, problem: Any) -> str:
        try:
            message = str(json.loads(problem.body)["message"])
        except (ValueError, KeyError, TypeError):
            message = str(problem.reason)
        match problem.status:
            case 401:
                return (
                    f"the API server does not accept the credentials of {context_of(self._profile)}, which are missing "
                    "or have expired; log in again as you do for kubectl"
                )
            case 403:
                return f"this user may not do this: {message}; ask for a role that allows it"
            case 404 if message.startswith("namespaces "):
                return f"{message}; create it (kubectl create namespace NAME), or correct namespace in the profile"
        return f"the API server answers {problem.status}: {message}"


def context_of(profile: KubernetesProfile) -> str:
    """Return the words for the profile's context in messages."""
    return f"context {profile.context}" if profile.context else "a current context"


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
