"""The entrance to the benchmarks: `./dev bench` lists them, `./dev bench NAME` runs one."""

from __future__ import annotations

import click

from holdfast.lab.bench.failover import failover


@click.group(name="./dev bench")
def bench() -> None:
    """Benchmarks of Holdfast, each on a lab of its own."""


bench.add_command(failover)

if __name__ == "__main__":
    bench(prog_name="./dev bench")
