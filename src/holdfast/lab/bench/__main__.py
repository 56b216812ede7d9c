"""The entrance to the benchmarks: `./dev bench` lists them, `./dev bench NAME` runs one."""

from __future__ import annotations

import click

from holdfast.lab.bench.failover import failover
from holdfast.lab.bench.move import move
from holdfast.lab.bench.plan import plan_bench
from holdfast.lab.bench.quorum import quorum
from holdfast.lab.bench.reservation import reservation
from holdfast.lab.bench.scale import scale


@click.group(name="./dev bench")
def bench() -> None:
    """Benchmarks of Holdfast, each on a lab or a target of its own."""


bench.add_command(failover)
bench.add_command(move)
bench.add_command(plan_bench)
bench.add_command(quorum)
bench.add_command(reservation)
bench.add_command(scale)

if __name__ == "__main__":
    bench(prog_name="./dev bench")
