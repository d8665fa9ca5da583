"""Stands in for the command `ray` of Ray's cluster launcher: `ray_launcher.py FOLDER COMMAND...`.

The folder holds its cloud: `calls` (one line for each command), `head` (the address of a dashboard), `up` (while a head
is up), and where the next commands have to fail, `fail-COMMAND` with what they say then.
"""

from __future__ import annotations

import argparse
import asyncio
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main() -> None:
    cloud = Path(sys.argv[1])
    with (cloud / "calls").open("a") as calls:
        calls.write(" ".join(sys.argv[2:]) + "\n")
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    up, dashboard, down = (commands.add_parser(name) for name in ("up", "dashboard", "down"))
    for each in (up, dashboard, down):
        each.add_argument("file", type=Path)
    for each in (up, down):
        each.add_argument("-y", action="store_true", required=True)
    up.add_argument("--disable-usage-stats", action="store_true", required=True)
    up.add_argument("--log-style", choices=["pretty"])
    for option in ("--port", "--remote-port"):
        dashboard.add_argument(option, type=int, required=True)
    asked = parser.parse_args(sys.argv[2:])
    if (fails := cloud / f"fail-{asked.command}").exists():
        sys.exit(fails.read_text())
    if asked.command == "up":
        check(asked.file)
        (cloud / "up").touch()
        print("Useful commands:\n  To terminate the cluster: ...")
    elif asked.command == "down":
        (cloud / "up").unlink()
    elif not (cloud / "up").exists():
        sys.exit("Error: Failed to forward dashboard\n The exception is: Head node of cluster (lab) not found!\n")
    else:
        parts = urlsplit((cloud / "head").read_text())
        asyncio.run(forward(asked.port, str(parts.hostname), int(parts.port or 0)))


def check(file: Path) -> None:
    """Take the configuration by Ray's own rules, and look whether what it sends is there."""
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(file.read_text())
    validate_config(prepare_config(config))
    for local in config["file_mounts"].values():
        assert Path(local).is_file(), local
    token = Path(config["file_mounts"]["~/.pinnsweep_token"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600, oct(token.stat().st_mode)


async def forward(port: int, host: str, remote_port: int) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, remote_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    main()
