"""How a node reaches the cluster database, and how its own member runs."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.membership.certificate_files import CertificateFiles
from holdfast.membership.endpoint import Endpoint
from holdfast.membership.identity import NodeIdentity, Peer
from holdfast.node.config import DaemonConfig
from holdfast.store.etcd.admin import EtcdAdmin
from holdfast.store.etcd.client import EtcdConnections, EtcdStore
from holdfast.store.etcd.member_config import InitialState, MemberConfig
from holdfast.store.etcd.tls import TlsFiles


@dataclass(frozen=True, slots=True)
class Database:
    """The store and its administration, over the same connections."""

    connections: EtcdConnections
    store: EtcdStore
    admin: EtcdAdmin


def tls_files(config: DaemonConfig) -> TlsFiles:
    """This node's certificate as the database wants it."""
    files = CertificateFiles(config.keys)
    listed = files.revocations if files.revocations.exists() else None
    return TlsFiles(authority=files.authority, certificate=files.certificate, key=files.key, revocations=listed)


def member_addresses(identity: NodeIdentity, peers: tuple[Peer, ...], *, is_lost: bool = False) -> tuple[str, ...]:
    """Where members answer clients, the own one first, then every network of every other voter.

    is_lost   the database was not found yet: the votes may have gone elsewhere meanwhile, so the others are asked last.
    """
    own = (loopback(identity),) if identity.is_voter else ()
    voters = [peer for peer in peers if peer.is_voter]
    others = [peer for peer in peers if not peer.is_voter] if is_lost else []
    return (
        *own,
        *(
            str(Endpoint(address=address, port=peer.ports.etcd_client))
            for peer in (*voters, *others)
            for address in peer.addresses.values()
        ),
    )


def loopback(identity: NodeIdentity) -> str:
    """Where the own member answers clients of this machine."""
    return f"127.0.0.1:{identity.ports.etcd_client}"


def open_database(config: DaemonConfig, identity: NodeIdentity) -> Database:
    """Connect when first needed, with this node's certificate."""
    connections = EtcdConnections(member_addresses(identity, identity.peers, is_lost=True), tls_files(config))
    return Database(connections, EtcdStore(connections), EtcdAdmin(connections))


def database_member(
    config: DaemonConfig,
    identity: NodeIdentity,
    initial_state: InitialState,
    initial_cluster: tuple[tuple[str, str], ...],
) -> MemberConfig:
    """This node's member: clients on loopback and all networks, other members on all networks.

    initial_cluster   of a node that joins; empty: this node alone. Without meaning once the member has data.
    """
    peers = tuple(str(Endpoint(address=a, port=identity.ports.etcd_peer)) for a in identity.addresses.values())
    clients = tuple(str(Endpoint(address=a, port=identity.ports.etcd_client)) for a in identity.addresses.values())
    return MemberConfig(
        name=identity.node,
        data_dir=config.database,
        log_file=config.log_directory / "etcd.log",
        process_file=config.run_directory / "etcd.process",
        client_addresses=(loopback(identity), *clients),
        peer_addresses=peers,
        initial_cluster=initial_cluster or tuple((identity.node, address) for address in peers),
        initial_state=initial_state,
        cluster_token=identity.cluster_id,
        tls=tls_files(config),
    )
