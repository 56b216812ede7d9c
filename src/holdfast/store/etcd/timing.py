"""How long the client waits for what. Every wait of the client is named here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. The defaults fit etcd with a heartbeat of 50 ms and an election time-out of 500 ms.

    - ``call_s``: a call altogether, all attempts included. Longer than two elections.
    - ``read_attempt_s``: one attempt of a read, a keep-alive or another call that may be repeated.
    - ``write_attempt_s``: one attempt of a write; then its outcome is unknown. What a follower passed to a leader that
      just died is lost, and etcd would say so only after 7 s.
    - ``retry_pause_s``: between rounds over all members while each of them refuses (no leader).
    - ``reconnect_pause_s``: longest pause of a watch between attempts.
    - ``watch_rest_s``: so long a watch asks others first after a member failed it.
    - ``probe_timeout_s``: how long a member may take to say that it is alive.
    - ``suspect_probe_s``, ``watch_probe_s``: how often a suspect member, and one that a watch depends on, is asked.
    """

    call_s: float = 3.0
    read_attempt_s: float = 0.5
    write_attempt_s: float = 1.0
    retry_pause_s: float = 0.03
    reconnect_pause_s: float = 0.5
    watch_rest_s: float = 5.0
    probe_timeout_s: float = 1.0
    suspect_probe_s: float = 1.0
    watch_probe_s: float = 2.0
