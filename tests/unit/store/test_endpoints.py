"""Which member is asked first."""

from __future__ import annotations

import ssl

from holdfast.store.etcd.endpoints import Endpoints
from holdfast.store.etcd.timing import Timing


async def test_members_of_a_silent_node_are_asked_last_on_all_its_addresses() -> None:
    endpoints = Endpoints(
        ("127.0.0.1:1", "127.0.0.2:1", "127.0.1.2:1", "127.0.0.3:1"), ssl.create_default_context(), Timing()
    )
    endpoints.silent({"127.0.0.2", "127.0.1.2"})
    assert [e.address for e in endpoints.preferred()] == ["127.0.0.1:1", "127.0.0.3:1"]
    await endpoints.close()
