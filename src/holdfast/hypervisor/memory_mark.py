"""The id of the memory that a guest's process was made from, kept in its domain XML.

Rule of the file: pure. libvirt carries an element of a foreign namespace below <metadata> wherever the definition goes:
into a saved state, and to the target of a migration. Source: https://libvirt.org/formatdomain.html#general-metadata
"""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree

from holdfast.hypervisor.xml_source import parse_xml, write_xml
from holdfast.model.errors import InvalidInput

NAMESPACE: Final = "urn:holdfast:memory:1"
_TAG: Final = f"{{{NAMESPACE}}}memory"

ElementTree.register_namespace("holdfast", NAMESPACE)


def with_memory_id(domain_xml: str, memory_id: str) -> str:
    """Return the domain as made from this memory. Raises InvalidInput."""
    root = parse_xml(domain_xml)
    remove_mark(root)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ElementTree.SubElement(root, "metadata")
    ElementTree.SubElement(metadata, _TAG, {"id": memory_id})
    return write_xml(root)


def without_memory_id(domain_xml: str) -> str:
    """Return the domain as one that starts afresh. Raises InvalidInput."""
    if NAMESPACE not in domain_xml:
        return domain_xml
    root = parse_xml(domain_xml)
    remove_mark(root)
    return write_xml(root)


def memory_id_in(domain_xml: str) -> str:
    """Return the id in a domain; empty when there is none or it is no XML."""
    try:
        mark = parse_xml(domain_xml).find(f"./metadata/{_TAG}")
    except InvalidInput:
        return ""
    return "" if mark is None else mark.get("id", "")


def memory_id_of(mark_xml: str) -> str:
    """Return the id in the element alone, which libvirt gives away without its namespace; empty when it is no XML."""
    try:
        return parse_xml(mark_xml).get("id", "")
    except InvalidInput:
        return ""


def remove_mark(root: ElementTree.Element) -> None:
    """Make it a domain that starts afresh."""
    for metadata in root.findall("metadata"):
        for mark in metadata.findall(_TAG):
            metadata.remove(mark)
