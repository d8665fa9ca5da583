"""Checks that this machine can start a cluster of virtual machines: commands, packages, credentials, configuration."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ClusterError
from .tunnel import last_line

_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("boto3",),
    "gcp": ("googleapiclient", "google_auth_httplib2"),
    "azure": (
        "azure.common",
        "azure.identity",
        "azure.mgmt.compute",
        "azure.mgmt.network",
        "azure.mgmt.resource",
        "azure.cli.core",
    ),
}
_INSTALL: Final = {
    "aws": "boto3",
    "gcp": "google-api-python-client",
    "azure": "azure-cli azure-common azure-identity azure-mgmt-compute azure-mgmt-network azure-mgmt-resource",
}


def local_steps(provider: str, config: dict[str, Any]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what must hold, each with a function that raises `ClusterError` where it does not; contact no machine."""
    yield (
        "the commands ray, ssh and rsync are installed",
        lambda: [command_path(name) for name in ("ray", "ssh", "rsync")],
    )
    yield f"the Python packages for {provider} are installed", lambda: _refuse_missing(provider)
    yield f"there are credentials for {provider}", _CREDENTIALS[provider]
    yield "the private key can be read, where one is named", lambda: _refuse_unreadable(config["auth"])
    yield "Ray's launcher accepts the configuration", lambda: _refuse_invalid(config)


def command_path(name: str) -> str:
    """Return the path of a command. Raises `ClusterError` where it is not installed."""
    beside_python = os.path.dirname(sys.executable)  # where the environment is not activated
    path = shutil.which(name) or shutil.which(name, path=beside_python)
    if path is None:
        remedy = "pip install 'ray[default]'" if name == "ray" else f"install it, for instance: apt install {name}"
        raise ClusterError(f"the command {name}, which Ray's launcher needs, is not on PATH; {remedy}")
    return path


def typed_command(name: str) -> str:
    """Return what a user has to type for a command: its name where that is on PATH, else its path."""
    beside_python = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside_python.is_file() else str(beside_python)


def _refuse_missing(provider: str) -> None:
    for module in _MODULES[provider]:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # its parent package
            spec = None
        if spec is None:
            raise ClusterError(
                f"the Python package {module}, which Ray needs for {provider}, is not installed; "
                f"pip install {_INSTALL[provider]}"
            )


def _aws_credentials() -> None:
    if importlib.import_module("boto3").Session().get_credentials() is None:
        raise ClusterError("there are no AWS credentials; run `aws configure`, or set AWS_PROFILE")


def _gcp_credentials() -> None:
    try:
        importlib.import_module("google.auth").default()
    except Exception as problem:  # the library's exceptions are not imported here
        reason = last_line(str(problem))
        raise ClusterError(
            f"there are no GCP credentials; run `gcloud auth application-default login` ({reason})"
        ) from None


def _azure_credentials() -> None:
    az = shutil.which("az")
    words = [az, "account", "show", "--output", "none"]
    if az is None or subprocess.run(words, capture_output=True, check=False).returncode:  # type: ignore[arg-type]
        raise ClusterError("nobody is logged in to Azure; run `az login` (package azure-cli)")


_CREDENTIALS: Final[Mapping[str, Callable[[], None]]] = {
    "aws": _aws_credentials,
    "gcp": _gcp_credentials,
    "azure": _azure_credentials,
}


def _refuse_unreadable(auth: Mapping[str, str]) -> None:
    for name in ("ssh_private_key", "ssh_public_key"):
        if name in auth and not os.access(auth[name], os.R_OK):
            raise ClusterError(f"{name}: {auth[name]} is not a readable file")


def _refuse_invalid(config: dict[str, Any]) -> None:
    """Raise `ClusterError` where the configuration breaks those rules of Ray that need no provider."""
    launcher = importlib.import_module("ray.autoscaler._private.util")
    try:
        with contextlib.redirect_stdout(None):  # it prints remarks
            launcher.validate_config(launcher.prepare_config(config))
    except Exception as problem:  # jsonschema's, ValueError, AssertionError, KeyError
        reason = getattr(problem, "message", None) or repr(problem)
        raise ClusterError(
            f"Ray's launcher refuses this configuration ({reason}); correct the profile's overrides"
        ) from None
