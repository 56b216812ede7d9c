"""`cluster.show` and `cluster.set`: the settings, what the times add up to, and changing several at once.

Rule of the file: all that is asked for changes in one transaction or nothing does; a dry run makes every check and
stops before it. Source: docs/safety.md (changing the times).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

from holdfast.decide.detection import Standing
from holdfast.decide.timing_change import check_timing_change, users_of_old, with_timings
from holdfast.decide.timing_sums import arithmetic
from holdfast.model.events import EventCode
from holdfast.model.ids import NodeName
from holdfast.model.setting_pages import SettingLine, SettingsChange, SettingsPage, TimingSum
from holdfast.model.settings import Settings, Timings
from holdfast.model.snapshot import ClusterRecord, Snapshot
from holdfast.node.commits import Commits
from holdfast.node.line_protocol import Result
from holdfast.node.request_params import NoParams, SettingsParams
from holdfast.node.settings_words import changed_settings, flat_settings
from holdfast.node.spec_transactions import set_cluster
from holdfast.store.port import Txn

READS: Final = frozenset(("cluster.show",))


class SettingsRequests:
    """Shows and changes the settings of the cluster."""

    methods: Final = frozenset(("cluster.show", "cluster.set"))

    def __init__(self, commits: Commits) -> None:
        self._commits = commits

    async def handle(self, method: str, params: dict[str, Any]) -> AsyncGenerator[object, None]:
        """Answer one request with a `Result`. Raises: InvalidInput, Refused, Unavailable."""
        if method == "cluster.show":
            NoParams.model_validate(params)
            yield Result(settings_page(await self._commits.snapshot()))
            return
        wanted = SettingsParams.model_validate(params)
        if wanted.dry_run:
            yield Result(self._attempt(await self._commits.snapshot(), wanted)[1])
            return
        yield Result(await self._commits.change(lambda snapshot: self._attempt(snapshot, wanted)))

    def _attempt(self, snapshot: Snapshot, wanted: SettingsParams) -> tuple[Txn, SettingsChange]:
        cluster = snapshot.cluster
        assert cluster is not None
        before = cluster.value.settings
        after = changed_settings(before, wanted.changes)
        record = replace(cluster.value, settings=after)
        change = _change(before, after, wanted, snapshot)
        if after.timings != before.timings:
            check_timing_change(snapshot, after.timings, suspects=self._suspects())
            record = replace(with_timings(cluster.value, after.timings), settings=after)
        words = ", ".join(f"{name} {change.after[name]} (was {change.before[name]})" for name in change.after)
        event = self._commits.events.event(EventCode.SETTINGS_CHANGED, words)
        return set_cluster(record, before=cluster, events=self._commits.events.operations(event)), change

    def _suspects(self) -> tuple[NodeName, ...]:
        standing = self._commits.life.detector.standing
        silent = (Standing.SUSPECT, Standing.LOST)
        return tuple(name for name, judged in sorted(standing.items()) if judged.standing in silent)


def settings_page(snapshot: Snapshot) -> SettingsPage:
    """Return all settings of the cluster, and what its times add up to."""
    record = snapshot.cluster.value if snapshot.cluster is not None else None
    defaults = flat_settings(Settings())
    return SettingsPage(
        cluster=record.name if record is not None else "",
        settings=tuple(
            SettingLine(name=name, value=value, default=defaults[name], is_default=value == defaults[name])
            for name, value in sorted(flat_settings(snapshot.settings).items())
        ),
        arithmetic=_sums(snapshot.settings.timings, snapshot),
        waits_for={str(name): why for name, why in users_of_old(snapshot).items()},
        is_changing=_is_changing(record),
    )


def _is_changing(record: ClusterRecord | None) -> bool:
    return record is not None and record.timings_before is not None


def _change(before: Settings, after: Settings, wanted: SettingsParams, snapshot: Snapshot) -> SettingsChange:
    was, becomes = flat_settings(before), flat_settings(after)
    is_timed = before.timings != after.timings
    return SettingsChange(
        is_dry_run=wanted.dry_run,
        before={name: was[name] for name in wanted.changes},
        after={name: becomes[name] for name in wanted.changes},
        sums_before=_sums(before.timings, snapshot) if is_timed else (),
        sums_after=_sums(after.timings, snapshot) if is_timed else (),
    )


def _sums(timings: Timings, snapshot: Snapshot) -> tuple[TimingSum, ...]:
    watchdogs = {name: session.value.watchdog_timeout_ms for name, session in sorted(snapshot.sessions.items())}
    return arithmetic(timings, watchdogs)
