"""Only an explicit *off* is off. Source: SAFE-2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.fencing.agent_reply import AgentReply, power_state, without_secrets
from holdfast.fencing.port import PowerState


@pytest.mark.parametrize(
    ("exit_code", "output", "state"),
    [
        (2, "Status: OFF\n", PowerState.OFF),
        (2, "OFF", PowerState.OFF),
        (0, "Status: ON\n", PowerState.ON),
        (0, "", PowerState.ON),
        (2, "", PowerState.UNKNOWN),
        (2, "usage: fence_x [options]", PowerState.UNKNOWN),
        (2, "Status: ON", PowerState.UNKNOWN),
        (0, "Status: OFF", PowerState.UNKNOWN),
        (2, "Status: OFF\nStatus: ON\n", PowerState.UNKNOWN),
        (0, "the switch is off", PowerState.UNKNOWN),
        (1, "Status: OFF", PowerState.UNKNOWN),
        (1, "", PowerState.UNKNOWN),
        (-9, "Status: OFF", PowerState.UNKNOWN),
        (None, "Status: OFF", PowerState.UNKNOWN),
    ],
)
def test_power_state(exit_code: int | None, output: str, state: PowerState) -> None:
    assert power_state(AgentReply(exit_code=exit_code, output=output)).state is state


@given(st.one_of(st.none(), st.integers(-20, 255)), st.text())
def test_off_is_never_guessed(exit_code: int | None, output: str) -> None:
    reading = power_state(AgentReply(exit_code=exit_code, output=output))
    assert reading.state is not PowerState.OFF or (exit_code == 2 and "off" in output.lower())


def test_exit_code_2_alone_is_explained() -> None:
    assert "bad arguments" in power_state(AgentReply(exit_code=2)).detail


def test_secrets_are_masked_and_addresses_are_not() -> None:
    options = {"ip": "10.0.0.1", "username": "admin", "password": "s3cret", "lanplus": "1", "privlvl": "s3cret-2"}
    text = without_secrets("login admin:s3cret at 10.0.0.1 failed (1), s3cret-2", options)
    assert text == "login admin:*** at 10.0.0.1 failed (1), ***"
