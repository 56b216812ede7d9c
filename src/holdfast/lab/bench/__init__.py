"""Benchmarks, each on a lab of its own, reporting by the contract of `report`; `./dev bench` lists them."""
