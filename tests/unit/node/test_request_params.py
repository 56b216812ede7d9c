"""Requests are checked before anything is done: unknown keys and values out of range are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.node import request_params as params
from holdfast.node.request_params import (
    AddParams,
    ConfirmParams,
    EventParams,
    NodeSetParams,
    RemoveParams,
    RoleParams,
    RoleSetParams,
    TokenParams,
)

ALL = [value for name, value in vars(params).items() if name.endswith("Params") and not name.startswith("_")]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: str(kind.__name__))
def test_unknown_keys_are_refused(kind: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({"surprise": 1})
    assert "surprise" in {error["loc"][0] for error in refused.value.errors()}


@pytest.mark.parametrize(
    ("kind", "given", "wrong"),
    [
        (TokenParams, {"ttl_s": 0}, "ttl_s"),
        (TokenParams, {"ttl_s": 8 * 86_400}, "ttl_s"),
        (ConfirmParams, {"node": "a", "person": "", "reason": "x"}, "person"),
        (ConfirmParams, {"node": "a", "person": "x", "reason": ""}, "reason"),
        (ConfirmParams, {"node": "a"}, "person"),
        (NodeSetParams, {"node": "a", "memory_bytes": 0}, "memory_bytes"),
        (NodeSetParams, {"node": "a", "vcpus": -1}, "vcpus"),
        (NodeSetParams, {"node": "a", "fence": "fence_ipmilan"}, "fence"),
        (NodeSetParams, {"node": "a", "fault_domains": {"A": True}}, "fault_domains"),
        (RoleSetParams, {"role": "web", "priority": "urgent"}, "priority"),
        (RoleSetParams, {"role": "web", "restart_limit": -1}, "restart_limit"),
        (RoleSetParams, {"role": "web", "failover_limit": 101}, "failover_limit"),
        (RoleSetParams, {"role": "web", "shutdown_timeout_ms": 3_600_001}, "shutdown_timeout_ms"),
        (AddParams, {}, "domain_xml"),
        (AddParams, {"domain_xml": "", "wanted": "sometimes"}, "wanted"),
        (RoleParams, {}, "role"),
        (RemoveParams, {"role": 5}, "role"),
        (EventParams, {"limit": -1}, "limit"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(kind: Any, given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(given)
    assert wrong in {str(error["loc"][0]) for error in refused.value.errors()}


def test_taking_a_fence_device_away_differs_from_leaving_it() -> None:
    assert "fence" in NodeSetParams.model_validate({"node": "a", "fence": None}).model_fields_set
    assert "fence" not in NodeSetParams.model_validate({"node": "a"}).model_fields_set
