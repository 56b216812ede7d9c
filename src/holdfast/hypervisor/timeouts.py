"""How long a hypervisor may take.

Rule of the file: past its time a change has an unknown outcome, and a question counts as unanswered.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervisorTimeouts:
    """Deadlines of one node's hypervisor, in ms."""

    ask_ms: int = 5_000
    """Questions, power button, resume: a few ms when all is well."""
    start_ms: int = 15_000
    """0.4 s when all is well; 4 to 5 s more when QEMU's capabilities are not known yet."""
    restore_ms: int = 600_000
    """As long as it takes to read the memory from the storage."""
    destroy_ms: int = 10_000
    kill_after_ms: int = 3_000
    """libvirt sends SIGTERM and waits 10 s before SIGKILL; we kill sooner, because somebody waits for the role."""
    warm_ms: int = 60_000
    settle_ms: int = 1_000
    """How long a new connection must be open before "no such guest" is final: a libvirtd that was frozen may still
    carry out what it was asked over the connection before."""
