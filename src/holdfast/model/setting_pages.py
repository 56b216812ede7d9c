"""The settings of a cluster as a person reads them: values, defaults, and what the times add up to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSum:
    """What some times add up to, with every number in it. `spare_ms` None: it bounds nothing, it only tells."""

    name: str
    text: str
    spare_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting: what it is, and what it would be if nobody had set it."""

    name: str
    value: object
    default: object
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPage:
    """All settings.

    is_changing   a change of the times is under way, and
    waits_for     these nodes may still use the times of before, with how that is known.
    """

    cluster: str
    settings: tuple[SettingLine, ...]
    arithmetic: tuple[TimingSum, ...]
    waits_for: dict[str, str]
    is_changing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """A change of settings, before or after it was made. The sums are empty when no time changes."""

    is_dry_run: bool
    before: dict[str, object]
    after: dict[str, object]
    sums_before: tuple[TimingSum, ...] = ()
    sums_after: tuple[TimingSum, ...] = ()
