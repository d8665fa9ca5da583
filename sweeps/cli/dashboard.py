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
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any that is free.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a study in a browser, while it runs or later.

    Serves optuna-dashboard on this machine, with contours and curves of each trial among its artifacts. It only reads.
    """
    folder = study_dir(study, root)
    from ..dashboard import serving

    shown = serving.dashboard(folder)
    with serving.serve(shown.app, host, port) as server:
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{server.server_address[1]}{shown.path}"
        if host not in serving.LOOPBACK:
            warn([f"the dashboard has no password: whoever reaches {host} sees this study"])
        if as_json:
            typer.echo(
                json.dumps({"study": folder.name, "url": address})
            )  # a line: who reads it need not wait for more
        else:
            typer.echo(f"{folder.name}: {address}  (Ctrl-C ends it)")
        if open_browser:
            typer.launch(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
