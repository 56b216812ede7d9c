"""The knobs of a cluster: each with its meaning, its unit, what it trades, and the arithmetic that keeps them safe.

Source: DESIGN sections 4 and 5; `docs/safety.md` has the time budget drawn out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import lru_cache
from typing import Final

from holdfast.model.errors import InvalidInput
from holdfast.model.timing_rules import broken

LEAST: Final = {
    "heartbeat_interval_ms": 50,
    "lost_after_both_ms": 1200,
    "guard_deadline_ms": 1000,
    "guard_kill_ms": 500,
    "proof_margin_ms": 500,
    "restart_grace_ms": 0,
    "claim_after_ms": 1000,
    "session_ttl_s": 5,
}
"""Below these the arithmetic of the proofs would rest on nothing; 500 ms is what the guard takes for itself to kill."""


VOTERS: Final = (1, 3, 5, 7)
LEAST_REPLACE_S: Final = 20
"""A member of the database stands still while it lets go of one that died less than some 15 s ago."""
LEAST_LOSS_MS: Final = 12_000
"""Two readings of 5 s, the pause before them, and the way of the report to the coordinator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Times of detection and self-protection. Raises InvalidInput, with the numbers, when they contradict each other.

    heartbeat_interval_ms     one heartbeat per peer and network this often. Shorter costs CPU, finds failures sooner.
    suspect_after_ms          silent on all networks for so long: suspect; the search for evidence begins.
    lost_after_both_ms        silent on all networks and on the heartbeat disks for so long: lost at once.
    patience_ms               silence without any other evidence for so long: lost, and fenced actively.
    guard_deadline_ms         a node that could not prove its entitlement for so long stops its own guests.
    guard_kill_ms             so long after it they are dead, or the watchdog is petted no more.
    proof_margin_ms           added to the watchdog arithmetic for clock drift and scheduling.
    restart_grace_ms          an orderly stop of holdfastd may take so long before its silence counts.
    claim_after_ms            a role assigned but not taken up for so long is assigned elsewhere.
    session_ttl_s             lease of a session; only the backstop, verdicts do not wait for it.
    """

    heartbeat_interval_ms: int = 200
    suspect_after_ms: int = 800
    lost_after_both_ms: int = 1600
    patience_ms: int = 5000
    guard_deadline_ms: int = 4000
    guard_kill_ms: int = 500
    proof_margin_ms: int = 1000
    restart_grace_ms: int = 30_000
    claim_after_ms: int = 10_000
    session_ttl_s: int = 10

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise InvalidInput(
                    f"{name} is {getattr(self, name)}, less than {least}", hint=f"set it to {least} or more"
                )
        if wrong := broken(self):
            raise InvalidInput(
                "; ".join(f"{one}; {one.why}" for one in wrong), hint=", and ".join(one.remedy for one in wrong)
            )

    def watchdog_proof_after_ms(self, *, deadline_ms: int, watchdog_timeout_ms: int, kill_bound_ms: int = 0) -> int:
        """How long after a majority refused a node its watchdog proof holds. Source: docs/safety.md, SAFE-2.

        kill_bound_ms   what the lost node's own guard takes to kill, when that was said; never less than the setting.
        """
        return deadline_ms + max(self.guard_kill_ms, kill_bound_ms) + watchdog_timeout_ms + self.proof_margin_ms


class ShutdownPolicy(StrEnum):
    """What a node does with its roles when its operating system shuts down or restarts.

    DRAIN   they are moved away, each as its move method says; what no node can take is left to the system.
    LEAVE   they are left to the system: libvirt-guests.service shuts them down, where it is set up to.
    """

    DRAIN = "drain"
    LEAVE = "leave"


CAUTIOUS_IS_LESS: Final = frozenset({"heartbeat_interval_ms", "guard_deadline_ms"})
"""Of these the shorter one fits every other node's old and new times; of all others the longer one."""


@lru_cache(maxsize=8)
def cautious(one: Timings, other: Timings) -> Timings:
    """Return times that fit to nodes that use either: beats as often as any, stops as soon, waits as long.

    Invariant: valid whenever both are, because each side of every inequality moves to its harmless end.
    Source: docs/safety.md (changing the times).
    """
    names = [field.name for field in fields(Timings)]
    chosen = {
        name: (min if name in CAUTIOUS_IS_LESS else max)(getattr(one, name), getattr(other, name)) for name in names
    }
    return Timings(**chosen)


class SaveCompression(StrEnum):
    """How libvirt packs memory that it saves. Source: save_image_format in qemu.conf."""

    NONE = ""
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    LZOP = "lzop"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the whole cluster, kept in its database.

    vcpu_overcommit          vCPUs of guests per vCPU of a node.
    shared_directories       directories that every node mounts from the same storage; guests' disks must be below one.
    quarantine_losses        a node lost so often within `quarantine_period_s` takes no roles for `quarantine_s`.
    events_kept              number of events that the database keeps.
    moves_at_once            so many planned moves by drains and failbacks are under way at the same time.
    moves_per_node           of these, so many begin or end at one node at the same time.
    moves_per_network        of these, so many copy memory over one network at the same time.
    move_bandwidth_mib_per_s  what one live move may take of a network, in MiB/s; 0: what the network carries.
    failback_settle_s        a node must have been up for so long before roles return to it by themselves.
    voters_at_most           so many nodes vote at most; an odd number, 1 to 7.
    voter_replace_after_s    a voter that was down for so long hands its vote to a node that is up.
    saved_state_directory    a directory that every node mounts from the same storage, where the memory of guests lies
                             while they move; empty: no memory is saved.
    save_compression         how saved memory is packed: more CPU, fewer bytes; empty: as qemu.conf of the node says.
    save_channels            so many streams write the memory of one guest at the same time; 1 to 16.
    shutdown_policy          what a node does with its roles when its operating system goes down.
    shutdown_timeout_s       for how long at most it keeps the operating system from going down.
    backup_interval_s        every voter keeps a backup of the database so often.
    backups_kept             so many of them.
    balance_automatically    whether the cluster balances its nodes by itself, once it has been at rest for that long.
    balance_threshold_percent   how far apart the loads of a site's nodes may be, in percent of a node.
    storage_loss_move_ms     a role that is to leave a node without its shared disks does so after that long.
    """

    timings: Timings = field(default_factory=Timings)
    vcpu_overcommit: int = 4
    shared_directories: tuple[str, ...] = ()
    quarantine_losses: int = 3
    quarantine_period_s: int = 3600
    quarantine_s: int = 7200
    events_kept: int = 1000
    moves_at_once: int = 4
    moves_per_node: int = 4
    moves_per_network: int = 4
    move_bandwidth_mib_per_s: int = 0
    failback_settle_s: int = 60
    voters_at_most: int = 5
    voter_replace_after_s: int = 600
    backup_interval_s: int = 3600
    backups_kept: int = 24
    saved_state_directory: str = ""
    save_compression: SaveCompression = SaveCompression.NONE
    save_channels: int = 1
    shutdown_policy: ShutdownPolicy = ShutdownPolicy.DRAIN
    shutdown_timeout_s: int = 300
    balance_automatically: bool = False
    balance_threshold_percent: int = 20
    storage_loss_move_ms: int = 15_000

    def __post_init__(self) -> None:
        self._check_moves()
        if not LEAST_LOSS_MS <= self.storage_loss_move_ms <= 3_600_000:
            raise InvalidInput(
                f"storage_loss_move_ms is {self.storage_loss_move_ms}, and a look may hang for 11.5 s before it shows "
                "that a disk is lost: who lost it too would seem to reach it",
                hint=f"set it to a number from {LEAST_LOSS_MS} to 3600000 (an hour)",
            )
        self._check_voters()
        if not 60 <= self.backup_interval_s <= 604_800:
            raise InvalidInput(
                f"backup_interval_s is {self.backup_interval_s}", hint="set it to a number from 60 to 604800 (a week)"
            )
        if not 1 <= self.backups_kept <= 1000:
            raise InvalidInput(f"backups_kept is {self.backups_kept}", hint="set it to a number from 1 to 1000")
        if not 1 <= self.shutdown_timeout_s <= 3600:
            raise InvalidInput(
                f"shutdown_timeout_s is {self.shutdown_timeout_s}, and holdfast-shutdown.service waits an hour at most",
                hint="set it to a number from 1 to 3600",
            )
        if not 1 <= self.balance_threshold_percent <= 100:
            raise InvalidInput(
                f"balance_threshold_percent is {self.balance_threshold_percent}, which is no threshold",
                hint="set it to a number from 1 to 100",
            )

    def _check_moves(self) -> None:
        for name in ("moves_at_once", "moves_per_node", "moves_per_network"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}: a drain would never end", hint="set 1 or more")
        if self.move_bandwidth_mib_per_s < 0:
            raise InvalidInput(
                f"move_bandwidth_mib_per_s is {self.move_bandwidth_mib_per_s}, which is no bandwidth",
                hint="set 1 or more, or 0 for what the network carries",
            )
        if not 1 <= self.save_channels <= 16:
            raise InvalidInput(f"save_channels is {self.save_channels}", hint="set it to a number from 1 to 16")
        if self.save_channels > 1 and self.save_compression:
            raise InvalidInput(
                f"memory cannot be packed ({self.save_compression}) while {self.save_channels} channels write it",
                hint="holdfast cluster set save_channels 1, or save_compression ''",
            )

    def _check_voters(self) -> None:
        if self.voters_at_most not in VOTERS:
            raise InvalidInput(
                f"voters_at_most is {self.voters_at_most}: an even number survives no more than the odd one below it, "
                "and each voter beyond 7 slows every decision",
                hint=f"set one of {', '.join(map(str, VOTERS))}",
            )
        if self.voter_replace_after_s < LEAST_REPLACE_S:
            raise InvalidInput(
                f"voter_replace_after_s is {self.voter_replace_after_s}: a restart of a machine takes longer, and the "
                "database may stand still when it lets go of a member that has only just died",
                hint=f"set it to {LEAST_REPLACE_S} or more",
            )
