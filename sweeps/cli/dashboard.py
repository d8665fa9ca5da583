"""The command that shows a study in a browser."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated

import typer

from .options import DEFAULT_ROOT, AsJson, Root, Study, study_dir, warn


def dashboard(
    study: Study,
    root: Root = DEFAULT_ROOT,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8080,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name by which browsers reach it. Repeatable."),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a study in a browser, while it runs or later.

    Serves optuna-dashboard on this machine, read-only. The artifacts of each trial are its contours and curves.
    """
    folder = study_dir(study, root)
    from ..dashboard import serving

    page = serving.dashboard(folder)
    with serving.serve(page.app, host, port, allow_hosts or ()) as server:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{server.server_address[1]}{page.path}"
        if host not in serving.LOOPBACK:
            warn([f"the dashboard has no password: everybody who can reach {host} can read this study"])
        if as_json:
            typer.echo(json.dumps({"study": folder.name, "url": address}))  # one line, so that readline() gets all
        else:
            typer.echo(f"{folder.name}: {address}  (Ctrl-C to stop)")
        if open_browser:
            typer.launch(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
