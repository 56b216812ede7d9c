"""Names and addresses of a lab."""

from __future__ import annotations

import itertools

import pytest

from holdfast.lab.errors import BadLabName
from holdfast.lab.layout import (
    MAX_GUESTS,
    MAX_NODES,
    STORAGE_NODE,
    WITNESS,
    Layout,
    Network,
    guest_address,
    guest_mac,
    hosts_file,
    node_address,
    node_mac,
    node_name,
    node_number,
)

INTERFACE_NAME_MAX = 15
SOCKET_PATH_MAX = 107


@pytest.mark.parametrize("name", ["", "Lab", "1st", "a/b", "a b", "x" * 17, "-a", "..", "a\n"])
def test_a_name_that_cannot_be_used_everywhere_is_refused(name: str) -> None:
    with pytest.raises(BadLabName):
        Layout.of(name)


@pytest.mark.parametrize("name", ["node0", "node17", "node", "node01", "web1", "node1\n"])
def test_only_the_names_of_nodes_are_nodes(name: str) -> None:
    with pytest.raises(BadLabName):
        node_number(name)


def test_no_two_addresses_are_the_same() -> None:
    numbers = [*range(1, MAX_NODES + 1), *map(node_number, (STORAGE_NODE, WITNESS))]
    nodes: list[tuple[Network, int]] = [(network, number) for network in Network for number in numbers]
    nodes = [(network, number) for network, number in nodes if network is not Network.VM or number <= MAX_NODES]
    guests = range(1, MAX_GUESTS + 1)
    addresses = [node_address(*node) for node in nodes] + [guest_address(index) for index in guests]
    cards = [node_mac(*node) for node in nodes] + [guest_mac(index) for index in guests]
    assert len(set(addresses)) == len(addresses)
    assert len(set(cards)) == len(cards)


def test_interface_and_socket_names_fit_the_kernel() -> None:
    layout = Layout.of("x" * 16)
    nodes = [layout.node(name) for name in (node_name(MAX_NODES), STORAGE_NODE, WITNESS)]
    ports = [node.port(network) for node in nodes for network in node.networks]
    assert max(map(len, ports)) <= INTERFACE_NAME_MAX
    assert max(len(str(path)) for path in (layout.control_socket, layout.power_socket)) <= SOCKET_PATH_MAX


def test_a_lab_owns_its_namespaces_and_no_neighbours() -> None:
    labs = [Layout.of(name) for name in ("a", "a-node1", "a-switch", "a-storage1", "a-witness1", "node1")]
    for one, other in itertools.permutations(labs, 2):
        machines = [other.node(name).namespace for name in ("node1", STORAGE_NODE, WITNESS)]
        for name in (other.switch_namespace, *machines):
            assert not one.owned_namespace.fullmatch(name)
        for name in ("node16", STORAGE_NODE, WITNESS):
            assert one.owned_namespace.fullmatch(one.node(name).namespace)


def test_the_bare_name_of_a_node_is_its_first_cluster_address() -> None:
    lines = hosts_file(["node1", "node2"]).splitlines()
    assert "10.91.1.2 node2 node2.cluster-a" in lines
    assert "10.91.3.1 node1.storage" in lines


def test_a_witness_is_on_the_cluster_networks_only() -> None:
    assert Layout.of("a").node(WITNESS).networks == (Network.CLUSTER_A, Network.CLUSTER_B)
    lines = [line for line in hosts_file(["node1"]).splitlines() if WITNESS in line]
    assert lines == ["10.91.1.102 witness1 witness1.cluster-a", "10.91.2.102 witness1.cluster-b"]
