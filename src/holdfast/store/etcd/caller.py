"""Brings one call to a member that takes it, and says what is certain when none did.

Rule of the file: a call that may not be repeated is sent again only after it was certainly not taken.
"""

from __future__ import annotations

import asyncio

from holdfast.store.errors import StoreOutcomeUnknown, StoreUnavailable
from holdfast.store.etcd.calls import Call, Reply, Request
from holdfast.store.etcd.connection import CallFailed, NotSent, Rejected, Unanswered
from holdfast.store.etcd.endpoints import Endpoint, Endpoints
from holdfast.store.etcd.rejections import final_error, is_not_taken
from holdfast.store.etcd.timing import Timing


class Caller:
    """Tries the members in order of preference, round after round, until one answers or the time is over."""

    def __init__(self, endpoints: Endpoints, timing: Timing) -> None:
        self._endpoints = endpoints
        self._timing = timing

    async def call(
        self, call: Call[Request, Reply], request: Request, *, is_repeatable: bool, timeout_s: float | None
    ) -> Reply:
        """Return the reply.

        Raises: StoreUnavailable; StoreOutcomeUnknown unless it ``is_repeatable``; what etcd's answer means otherwise.
        """
        attempt_s = self._timing.read_attempt_s if is_repeatable else self._timing.write_attempt_s
        time = asyncio.get_running_loop().time
        deadline = time() + (self._timing.call_s if timeout_s is None else timeout_s)
        failures: dict[str, CallFailed] = {}
        while True:
            for endpoint in self._endpoints.preferred():
                if (left_s := deadline - time()) <= 0:
                    raise _unavailable(failures)
                try:
                    return await endpoint.call(call, request, timeout_s=min(attempt_s, left_s))
                except CallFailed as failure:
                    failures[endpoint.address] = failure
                    self._judge(endpoint, failure, is_repeatable=is_repeatable)
            if time() >= deadline:  # also when no member is known
                raise _unavailable(failures)
            await asyncio.sleep(min(self._timing.retry_pause_s, deadline - time()))

    def _judge(self, endpoint: Endpoint, failure: CallFailed, *, is_repeatable: bool) -> None:
        """Raise when the failure settles the call; return when it may be tried again."""
        match failure:
            case NotSent():
                self._endpoints.suspect(endpoint)
            case Unanswered():
                self._endpoints.suspect(endpoint)
                if not is_repeatable:
                    raise _unknown(failure) from failure
            case Rejected():
                if (error := final_error(failure)) is not None:
                    raise error from failure
                if not (is_repeatable or is_not_taken(failure)):
                    raise _unknown(failure) from failure


def _unknown(failure: CallFailed) -> StoreOutcomeUnknown:
    return StoreOutcomeUnknown(
        f"a write was sent to the cluster database and may or may not be done ({failure})",
        hint="read the state again before deciding; repeat only a guarded transaction",
    )


def _unavailable(failures: dict[str, CallFailed]) -> StoreUnavailable:
    details = "; ".join(str(failure) for failure in failures.values()) or "none was asked"
    error = StoreUnavailable(
        f"no member of the cluster database took the request ({details})",
        hint="check that a majority of the voters runs and can be reached: holdfast status",
    )
    error.__cause__ = next(iter(failures.values()), None)
    return error
