"""Standing warnings about certificates that end soon.

Rule of the file: pure. A node renews its own certificate 120 days before its end, so whoever is warned of could not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from holdfast.decide.certificates import DAY_MS
from holdfast.model.nodes import Condition
from holdfast.model.snapshot import Snapshot

WARNED_MS: Final = 30 * DAY_MS


def expiring(snapshot: Snapshot, now_ms: int) -> tuple[Condition, ...]:
    """Return a warning per node whose certificate ends within 30 days."""
    found = []
    for name, record in sorted(snapshot.certificates.items()):
        if name not in snapshot.nodes or not record.value.issued:
            continue
        until_ms = record.value.issued[-1].until_ms
        if until_ms - now_ms > WARNED_MS:
            continue
        verb = "expires" if until_ms > now_ms else "expired"
        what = f"run: holdfast certificate renew {name}"
        if name not in snapshot.sessions:
            what = "it is down: start it, and it renews its certificate by itself while that is good; else join it anew"
        day = f"{datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d}"
        text = f"the certificate of {name} {verb} on {day}, and no peer speaks to it then; {what}"
        found.append(Condition(code="certificate-expires", subject=name, text=text))
    return tuple(found)
