"""Who is heard, who is suspect, who is gone: one node's judgement of its peers.

Rule of the file: silence alone is never enough at once. Surely dead acts at once; maybe alive gets patience, and then
needs a majority of voters that agree. Source: DESIGN section 5.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast.model.ids import Incarnation, NetworkName, NodeName
from holdfast.model.reasons import Reason, ReasonCode, because
from holdfast.model.settings import Timings


class Standing(StrEnum):
    """What an observer concludes of a peer.

    HEARD            on every network.
    BADLY_CONNECTED  not on every network, or only by others.
    SUSPECT          silent to the observer and to all whom the observer hears; evidence is searched.
    LOST             a verdict is due.
    """

    HEARD = "heard"
    BADLY_CONNECTED = "badly-connected"
    SUSPECT = "suspect"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerEvidence:
    """What a peer's fence device answered after the peer fell silent. `is_off` None: no clear answer."""

    is_off: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageEvidence:
    """How long a peer has not stamped its slot on any heartbeat disk that the observer reads well."""

    silent_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """What the observer knows of one peer that has a session.

    silent_ms      per network, time since its last heartbeat (or since the observer began to listen); empty where the
                   two have no network in common on which the observer hears at all: it cannot tell.
    unheard_ms     time since it was heard anywhere, or since the observer began to look for it.
    reported_ms    per third node that the observer hears: time since that node heard this peer.
    stopping       its holdfastd announced an orderly stop.
    storage        None: nothing is known by heartbeat disks.
    answered_ms    time since its machine answered that nobody listens there; None: it never did.
    """

    node: NodeName
    incarnation: Incarnation
    silent_ms: Mapping[NetworkName, int]
    reported_ms: Mapping[NodeName, int]
    unheard_ms: int
    power: PowerEvidence | None = None
    stopping: bool = False
    storage: StorageEvidence | None = None
    answered_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The judgement of one peer. `proven_off`: a verdict may carry the proof by power state with it."""

    node: NodeName
    incarnation: Incarnation
    standing: Standing
    proven_off: bool = False
    reasons: tuple[Reason, ...] = ()


def heard_directly(silent_ms: Mapping[NetworkName, int], limit_ms: int) -> Standing | None:
    """The standing of a peer that the observer itself hears, whatever others say.

    None for one that is silent, and for one that the observer could not hear on any network.
    """
    if not silent_ms or min(silent_ms.values()) >= limit_ms:
        return None
    return Standing.HEARD if max(silent_ms.values()) < limit_ms else Standing.BADLY_CONNECTED


def is_together(me: NodeName, heard: Collection[NodeName], voters: frozenset[NodeName]) -> bool:
    """Whether the observer and those whom it hears are a majority of voters."""
    return len(voters.intersection((me, *heard))) * 2 > len(voters)


def assess(
    peer: PeerView, *, me: NodeName, voters: frozenset[NodeName], timings: Timings, together_ms: int
) -> Assessment:
    """Judge one peer from what is known now.

    together_ms   for how long the observer has been with a majority of voters, without a break: see `is_together`.

    Invariant: LOST only with power reported off, or when for a majority of voters the silence outlasted the patience
    (`lost_after_both_ms` for a peer that was silent on the heartbeat disks for so long, too), and the observer was with
    a majority all that time: whoever is back first must not find the others overdue. Nor from silence by an observer
    that could not hear the peer: who can hear it judges that, and counts the reports of this one.
    """
    limit_ms = timings.suspect_after_ms
    if (heard := heard_directly(peer.silent_ms, limit_ms)) is not None:
        return _judged(peer, heard)
    if not peer.silent_ms and (not peer.reported_ms or peer.unheard_ms < limit_ms):
        return _judged(peer, Standing.HEARD)
    silent_ms = min(peer.silent_ms.values(), default=min((peer.unheard_ms, *peer.reported_ms.values())))
    heard_by = sorted(node for node, age_ms in peer.reported_ms.items() if age_ms < limit_ms)
    if heard_by:
        reason = because(ReasonCode.STILL_HEARD, peer.node, heard_by=", ".join(heard_by))
        return _judged(peer, Standing.BADLY_CONNECTED, reason)
    silent = because(ReasonCode.SILENT, peer.node, silent_ms=silent_ms, limit_ms=limit_ms)
    if peer.power is not None and peer.power.is_off:
        return Assessment(
            node=peer.node,
            incarnation=peer.incarnation,
            standing=Standing.LOST,
            proven_off=True,
            reasons=(silent, because(ReasonCode.POWER_OFF, peer.node)),
        )
    return _judge_silence(peer, silent, silent_ms, me=me, voters=voters, timings=timings, together_ms=together_ms)


def _judge_silence(
    peer: PeerView,
    silent: Reason,
    silent_ms: int,
    *,
    me: NodeName,
    voters: frozenset[NodeName],
    timings: Timings,
    together_ms: int,
) -> Assessment:
    reasons = [silent, *_evidence(peer, silent_ms, timings)]
    patience_ms = _patience_ms(peer, timings)
    if silent_ms < patience_ms or not peer.silent_ms:
        return _judged(peer, Standing.SUSPECT, *reasons)
    agreeing = voters & ({me} | {node for node, age_ms in peer.reported_ms.items() if age_ms >= patience_ms})
    needed = len(voters) // 2 + 1
    if len(agreeing) < needed:
        counts = {"agreeing": len(agreeing), "voters": len(voters), "needed": needed}
        return _judged(peer, Standing.SUSPECT, *reasons, because(ReasonCode.NO_MAJORITY_AGREES, peer.node, **counts))
    if together_ms < patience_ms:
        anew = because(ReasonCode.MAJORITY_IS_NEW, me, together_ms=together_ms, limit_ms=patience_ms)
        return _judged(peer, Standing.SUSPECT, *reasons, anew)
    return _judged(peer, Standing.LOST, *reasons, because(ReasonCode.PATIENCE_OVER, peer.node, limit_ms=patience_ms))


def _evidence(peer: PeerView, silent_ms: int, timings: Timings) -> Iterator[Reason]:
    """What is known of a silent peer besides its silence."""
    if peer.stopping:
        yield because(ReasonCode.STOPPING, peer.node)
    if _nobody_listens(peer, timings):
        yield because(ReasonCode.NOBODY_LISTENS, peer.node)
    if peer.storage is not None and peer.storage.silent_ms >= timings.lost_after_both_ms:
        yield because(ReasonCode.SILENT_ON_STORAGE, peer.node, silent_ms=peer.storage.silent_ms)
    elif peer.storage is not None and peer.storage.silent_ms + timings.lost_after_both_ms <= silent_ms:
        yield because(ReasonCode.STILL_STAMPS, peer.node, silent_ms=peer.storage.silent_ms)
    if peer.power is not None and peer.power.is_off is None:
        yield because(ReasonCode.POWER_UNKNOWN, peer.node, detail=peer.power.detail)
    elif peer.power is not None:
        yield because(ReasonCode.POWER_ON, peer.node)


def _patience_ms(peer: PeerView, timings: Timings) -> int:
    """How long the silence of a peer has to last.

    One that is silent on storage too is not only cut off, so it gets less; but not while its holdfastd is away and
    nothing else: it said so itself, or its machine does.
    """
    if peer.stopping:
        return timings.patience_ms + timings.restart_grace_ms
    is_silent_there = peer.storage is not None and peer.storage.silent_ms >= timings.lost_after_both_ms
    if is_silent_there and not _nobody_listens(peer, timings):
        return min(timings.lost_after_both_ms, timings.patience_ms)
    return timings.patience_ms


def _nobody_listens(peer: PeerView, timings: Timings) -> bool:
    return peer.answered_ms is not None and peer.answered_ms < timings.suspect_after_ms


def _judged(peer: PeerView, standing: Standing, *reasons: Reason) -> Assessment:
    return Assessment(node=peer.node, incarnation=peer.incarnation, standing=standing, reasons=reasons)
