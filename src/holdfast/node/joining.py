"""Getting this machine into a cluster with a token, as a node or as a witness.

Rule of the file: what can be known to fail here is tried before the cluster is asked, so that it costs no token. A
machine joins without a vote; the coordinator gives it one when that serves the cluster. Source: docs/quorum.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from holdfast import __version__
from holdfast.membership.certificate_files import CertificateFiles, joining_context, unproven_context
from holdfast.membership.certificates import KeyAndCertificate, create_request, require_fingerprint
from holdfast.membership.cluster_key import write_cluster_key
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import IpText, NodeIdentity, Ports, write_identity
from holdfast.membership.tokens import JoinToken, decode_token
from holdfast.model.errors import HoldfastError, Unavailable
from holdfast.model.ids import ClusterId, NetworkName, NodeName
from holdfast.node.clock import Clock
from holdfast.node.config import DaemonConfig
from holdfast.node.database import database_member, open_database
from holdfast.node.enrolment import Admission, JoinRequest
from holdfast.node.founding import NAME_PATTERN, Tell
from holdfast.node.request_params import FaultDomainText
from holdfast.node.residence import (
    checked_directories,
    forget_cluster,
    machine_ids,
    require_own_addresses,
    stranger,
)
from holdfast.store.etcd.member_config import InitialState
from holdfast.store.etcd.preconditions import check
from holdfast.store.port import Delete, ModRevision, Txn
from holdfast.store.records import certificates_key, node_key

log = logging.getLogger(__name__)

CONNECT_S: Final = 3.0
ANSWER_WAIT_S: Final = 45.0


class JoinParams(BaseModel):
    """What `holdfast node join` asks for. A witness needs no addresses: they follow from how it reaches the nodes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    node: str = Field(pattern=NAME_PATTERN)
    addresses: dict[str, IpText] = {}
    ports: Ports = Ports()
    fault_domains: tuple[FaultDomainText, ...] = ()


@dataclass(frozen=True, slots=True)
class Joiner:
    """Joins a cluster on this machine."""

    config: DaemonConfig
    clock: Clock
    is_witness: bool = False

    async def join(self, params: JoinParams, tell: Tell) -> NodeIdentity:
        """Join the cluster that issued the token. After an error this machine and the cluster are as before."""
        token = decode_token(params.token)
        require_own_addresses(params.addresses)
        await forget_cluster(self.config)
        request = create_request(NodeName(params.node))
        reached = await _reached(token) if self.is_witness else {}
        here = params.addresses or reached
        try:
            check(database_member(self.config, stranger(params.node, here, params.ports), InitialState.EXISTING, ()))
            tell(f"asking {', '.join(map(str, token.endpoints[:2]))} to be let in")
            admission = await _ask_to_join(token, self._request(params, request.request_pem, reached))
            identity = _admitted(params, admission)
            await self._settle(identity, admission, request.key_pem)
        except BaseException:
            await forget_cluster(self.config)
            raise
        return identity

    async def _settle(self, identity: NodeIdentity, admission: Admission, key_pem: bytes) -> None:
        """Keep what the cluster gave, or give it back."""
        try:
            self._write_admission(admission, key_pem)
            if not self.is_witness:
                checked_directories(admission.shared_directories)
            write_identity(identity, self.config.identity)
        except BaseException:
            await self._withdraw(identity)
            raise

    def _request(self, params: JoinParams, request_pem: bytes, reached: Mapping[str, str]) -> JoinRequest:
        machine_id, product_uuid = machine_ids()
        return JoinRequest(
            token=params.token,
            node=params.node,
            addresses=params.addresses,
            reached=dict(reached),
            ports=params.ports,
            version=__version__,
            wall_clock_ms=self.clock.wall_ms(),
            request_pem=request_pem.decode(),
            is_witness=self.is_witness,
            machine_id=machine_id,
            product_uuid=product_uuid,
            fault_domains=params.fault_domains,
        )

    def _write_admission(self, admission: Admission, key_pem: bytes) -> None:
        authority_pem = admission.authority_pem.encode()
        files = CertificateFiles(self.config.keys)
        if admission.authority_key_pem:
            files.write_authority(
                KeyAndCertificate(key_pem=admission.authority_key_pem.encode(), certificate_pem=authority_pem)
            )
        files.write_node(
            key_pem=key_pem, certificate_pem=admission.certificate_pem.encode(), authority_pem=authority_pem
        )
        if admission.revocations_pem:
            files.write_revocations(admission.revocations_pem.encode())
        write_cluster_key(bytes.fromhex(admission.cluster_key_hex), self.config.cluster_key)

    async def _withdraw(self, identity: NodeIdentity) -> None:
        """Take back the record that the cluster made for this node, as far as it can be reached."""
        database = open_database(self.config, identity)
        key = node_key(identity.node)
        try:
            stored = await database.store.get(key)
            if stored is not None:
                unchanged = ModRevision(key, equals=stored.mod_revision)
                gone = (Delete(key), Delete(certificates_key(identity.node)))
                await database.store.txn(Txn(compares=(unchanged,), then=gone), timeout_s=5.0)
        except HoldfastError as error:
            log.warning("the cluster keeps a record of this node; joining again replaces it (%s)", error)
        finally:
            await database.store.close()


def _admitted(params: JoinParams, admission: Admission) -> NodeIdentity:
    """This machine once it was let in."""
    return stranger(params.node, admission.addresses, params.ports).model_copy(
        update={
            "cluster_id": ClusterId(admission.cluster_id),
            "cluster_name": admission.cluster_name,
            "addresses": {NetworkName(name): ip for name, ip in admission.addresses.items()},
            "peers": admission.peers,
            "generation": admission.generation,
        }
    )


async def _reached(token: JoinToken) -> dict[str, str]:
    """Per address in the token that answers, this machine's own address on the way there. Raises: Unavailable."""
    reached: dict[str, str] = {}
    for endpoint in token.endpoints:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        except (OSError, TimeoutError):
            continue
        reached[endpoint.address] = str(writer.get_extra_info("sockname")[0])
        writer.close()
    if not reached:
        raise _nobody_answered(token, ())
    return reached


async def _ask_to_join(token: JoinToken, request: JoinRequest) -> Admission:
    """Ask one node after the other; a refusal is final, silence is not."""
    failures = []
    for endpoint in token.endpoints:
        try:
            pem = str(await _call(endpoint, unproven_context(), "authority", {})).encode()
            require_fingerprint(pem, token.authority_fingerprint, str(endpoint))
            answer = await _call(endpoint, joining_context(pem), "join", request.model_dump(mode="json"))
            return Admission.model_validate(answer)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            failures.append(f"{endpoint} ({str(error) or 'no answer'})")
    raise _nobody_answered(token, tuple(failures))


def _nobody_answered(token: JoinToken, failures: tuple[str, ...]) -> Unavailable:
    return Unavailable(
        f"no node of the cluster answered: {', '.join(failures or map(str, token.endpoints))}",
        hint="check that holdfastd runs there and that the join port is not blocked, then join again",
    )


class _Refusal(HoldfastError):
    """What a node of the cluster answered; its code is the remote one."""

    code = "join-refused"


async def _call(endpoint: Endpoint, context: ssl.SSLContext, method: str, params: Mapping[str, Any]) -> object:
    async with asyncio.timeout(ANSWER_WAIT_S):
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                endpoint.address, endpoint.port, ssl=context, limit=4 * 1024 * 1024
            )
        try:
            writer.write(json.dumps({"method": method, "params": params}).encode() + b"\n")
            answer = json.loads(await reader.readline() or b"{}")
        finally:
            writer.close()
    if "error" in answer:
        raise _Refusal(answer["error"]["message"], hint=answer["error"]["hint"])
    if "result" not in answer:
        raise TimeoutError("the connection was closed")
    result: object = answer["result"]
    return result
