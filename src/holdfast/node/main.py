"""The entry point of holdfastd."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from holdfast import __version__
from holdfast.model.errors import HoldfastError
from holdfast.node import libvirt_certificates
from holdfast.node.clock import SystemClock
from holdfast.node.config import CONFIG_PATH, DaemonConfig, read_config
from holdfast.node.daemon import Daemon

EXAMPLE = """example:
  holdfastd                                  with /etc/holdfast/holdfast.toml, if it is there
  holdfastd --config /tmp/try/holdfast.toml  with another file
"""


def main() -> None:
    """Run holdfastd until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="holdfastd",
        description="The daemon of a Holdfast node.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, default=CONFIG_PATH, help=f"default: {CONFIG_PATH}")
    parser.add_argument("--version", action="version", version=f"holdfastd {__version__}")
    parser.add_argument(
        "--install-libvirt-certificates",
        action="store_true",
        help="put this node's certificates where libvirt and QEMU look for theirs, which live moves need, and exit",
    )
    arguments = parser.parse_args()
    try:
        config = read_config(arguments.config)
        if arguments.install_libvirt_certificates:
            for path in libvirt_certificates.install(config.state_directory / "pki"):
                sys.stdout.write(f"{path}\n")
            return
        logging.basicConfig(
            level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
        )
        config.log_directory.mkdir(parents=True, exist_ok=True)
        config.state_directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run(config))
    except* HoldfastError as group:
        for error in group.exceptions:
            hint = getattr(error, "hint", "")
            sys.stderr.write(f"error: {error}\n" + (f"next: {hint}\n" if hint else ""))
        sys.exit(1)


async def _run(config: DaemonConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Daemon(config, SystemClock()).run(stop)
