"""How one member of the database runs: its addresses, its files, its tuning, and the etcd options that say so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from holdfast.store.etcd.tls import TlsFiles
from holdfast.store.port import Member


class InitialState(StrEnum):
    """Whether the member founds a new database or joins one. Without effect once it has data."""

    NEW = "new"
    EXISTING = "existing"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """Addresses are ``host:port``; IPv6 hosts in brackets.

    - ``client_addresses``: where it listens for clients: 127.0.0.1 and the cluster networks. All but loopback ones are
      told to other members as ways to reach it.
    - ``peer_addresses``: where it listens for other members.
    - ``initial_cluster``: name and peer address of every member, this one included. Read at the first start only.
    - ``process_file``: where the running process is remembered; best where a restart of the machine empties it.
    - ``heartbeat_ms``, ``election_ms``: a leader is missed after one to two election times, however often it beats;
      more beats only cost more.
    - ``quota_bytes``: the database refuses writes above this size.
    - ``min_free_bytes``: room on disk without which it does not start (etcd allocates its log in pieces of 64 MB).
    - ``history``: how long changes stay watchable; a node that was away longer reads everything again.
    """

    name: str
    data_dir: Path
    log_file: Path
    process_file: Path
    client_addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]
    initial_cluster: tuple[tuple[str, str], ...]
    initial_state: InitialState
    cluster_token: str
    tls: TlsFiles
    program: str = "etcd"
    heartbeat_ms: int = 100
    election_ms: int = 500
    quota_bytes: int = 512 * 1024 * 1024
    min_free_bytes: int = 192 * 1024 * 1024
    log_bytes: int = 8 * 1024 * 1024
    history: str = "1h"
    progress_interval: str = "30s"

    @property
    def stored_file(self) -> Path:
        """Where it is noted, beside the data, how far the member has surely stored."""
        return self.data_dir.with_name(f"{self.data_dir.name}.stored")

    def arguments(self) -> tuple[str, ...]:
        """Return the command line."""
        reachable = tuple(a for a in self.client_addresses if not a.startswith(("127.", "[::1]", "localhost")))
        options = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": _urls(self.client_addresses),
            "advertise-client-urls": _urls(reachable or self.client_addresses),
            "listen-peer-urls": _urls(self.peer_addresses),
            "initial-advertise-peer-urls": _urls(self.peer_addresses),
            "initial-cluster": ",".join(f"{name}=https://{address}" for name, address in self.initial_cluster),
            "initial-cluster-state": self.initial_state.value,
            "initial-cluster-token": self.cluster_token,
            "heartbeat-interval": str(self.heartbeat_ms),
            "election-timeout": str(self.election_ms),
            "pre-vote": "true",
            "quota-backend-bytes": str(self.quota_bytes),
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": self.history,
            "experimental-watch-progress-notify-interval": self.progress_interval,
            "snapshot-count": "10000",  # etcd keeps so many log entries in memory
            "max-txn-ops": "1024",
            "logger": "zap",
            "log-outputs": "stderr",
            **self._tls_options(),
        }
        return (self.program, *(f"--{name}={value}" for name, value in options.items()))

    def _tls_options(self) -> dict[str, str]:
        certificate, key, authority = str(self.tls.certificate), str(self.tls.key), str(self.tls.authority)
        lists = {} if self.tls.revocations is None else {"crl-file": str(self.tls.revocations)}
        return {
            **{f"{side}-{name}": value for side in ("client", "peer") for name, value in lists.items()},
            "cert-file": certificate,
            "key-file": key,
            "trusted-ca-file": authority,
            "client-cert-auth": "true",
            "peer-cert-file": certificate,
            "peer-key-file": key,
            "peer-trusted-ca-file": authority,
            "peer-client-cert-auth": "true",
        }


def joining_cluster(members: tuple[Member, ...], own_name: str) -> tuple[tuple[str, str], ...]:
    """Return ``initial_cluster`` for a member that was just added: the one that has no name yet is this one."""
    return tuple(
        (member.name or own_name, url.removeprefix("https://")) for member in members for url in member.peer_urls
    )


def _urls(addresses: tuple[str, ...]) -> str:
    return ",".join(f"https://{address}" for address in addresses)
