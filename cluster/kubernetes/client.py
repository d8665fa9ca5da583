"""The API server of a Kubernetes cluster, through the official Python client, which is an optional dependency."""

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
    """The API server said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(ClusterError):
    """Nothing can be heard of the API server."""


class KubernetesClient:
    """The API server as a profile reaches it; every failure is a `ClusterError` of one sentence."""

    def __init__(self, profile: KubernetesProfile, name: str) -> None:
        self._profile, self._name = profile, name

    @functools.cached_property
    def package(self) -> Any:
        try:
            import kubernetes  # slow to import, and an optional dependency
        except ImportError:
            raise ClusterError(
                "jobs on Kubernetes need the Python package kubernetes: pip install 'pinnsweep[kubernetes]'"
            ) from None
        return kubernetes

    @functools.cached_property
    def client(self) -> Any:
        configuration = self.package.client.Configuration()
        configuration.retries = False  # whoever waits asks again; whoever checks wants to know now
        file = self._profile.kubeconfig and str(Path(self._profile.kubeconfig).expanduser())
        try:
            return self.package.config.new_client_from_config(
                file, self._profile.context, persist_config=False, client_configuration=configuration
            )
        except (self.package.config.ConfigException, OSError, ValueError, yaml.YAMLError) as problem:
            raise ClusterError(
                f"{self._name}: the kubeconfig {file or '($KUBECONFIG or ~/.kube/config)'} does not give "
                f"{context_of(self._profile)} ({_one_line(problem)}); see `kubectl config get-contexts`"
            ) from None

    @property
    def core(self) -> Any:
        return self.package.client.CoreV1Api(self.client)

    @property
    def objects(self) -> Any:
        return self.package.client.CustomObjectsApi(self.client)

    def groups(self) -> dict[str, list[str]]:
        """The API groups that are served, and their versions, the preferred one first."""
        found = self.call(self.package.client.ApisApi(self.client).get_api_versions).groups
        return {
            group.name: sorted(
                (entry.version for entry in group.versions),
                key=lambda version: version != group.preferred_version.version,
            )
            for group in found
        }

    def create_rayjob(self, rayjob: Mapping[str, Any], **options: str) -> dict[str, Any]:
        """The RayJob as the API server has it. Strict: an older KubeRay would leave out what it does not know."""
        try:
            return dict(
                self.here(
                    self.objects.create_namespaced_custom_object,
                    **RAYJOBS,
                    body=rayjob,
                    field_validation="Strict",
                    **options,
                )
            )
        except Refused as problem:
            if "unknown field" in str(problem):
                raise ClusterError(f"{problem}; have {KUBERAY} installed, its resource definitions too") from None
            raise

    def here(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of the library in the profile's namespace."""
        return self.call(function, namespace=self._profile.namespace, **arguments)

    def call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Call a function of the library."""
        with self.explained():
            return function(**{"_request_timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S), **arguments})

    def next_of(self, pieces: Iterator[bytes]) -> bytes:
        """The next piece of a stream, empty at its end."""
        with self.explained():
            return next(pieces, b"")

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """What the library raises, as one sentence that says what to do."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except HTTPError as problem:
            raise Unreachable(
                f"{self._name}: the API server at {self.client.configuration.host} does not answer "
                f"({_one_line(problem)}); see whether `kubectl get pods` works from here"
            ) from None
        except ApiException as problem:
            raise Refused(f"{self._name}: {self._refusal(problem)}", int(problem.status or 0)) from None

    def _refusal(self, problem: Any) -> str:
        try:
            said = str(json.loads(problem.body)["message"])
        except (ValueError, KeyError, TypeError):
            said = str(problem.reason)
        match problem.status:
            case 401:
                return (
                    f"the API server does not accept the credentials of {context_of(self._profile)}, which are missing "
                    "or have expired; log in again, as for kubectl"
                )
            case 403:
                return f"this user may not do this: {said}; ask for a role that allows it"
            case 404 if said.startswith("namespaces "):
                return f"{said}; create it (kubectl create namespace NAME), or correct namespace in the profile"
        return f"the API server answers {problem.status}: {said}"


def context_of(profile: KubernetesProfile) -> str:
    return f"context {profile.context}" if profile.context else "a current context"


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
