"""Holdfast: a failover cluster for virtual machines on Linux."""

__version__ = "0.1.0"
