"""Parse XML that a person gave us, safely.

Rule of the file: whatever text comes in, either an element tree comes out or InvalidInput with line and column. No
DTD, no entities, no bombs. Source: https://docs.python.org/3/library/xml.html#xml-vulnerabilities
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

from holdfast.model.errors import InvalidInput

MAX_BYTES = 1024 * 1024
"""Far above any real domain (tens of KiB), far below libvirt's limit of 4 MiB for one string."""
MAX_DEPTH = 64
"""Real domains nest less than 10 deep; writing a tree out again recurses once per level."""

ElementTree.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
ElementTree.register_namespace("libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")


def parse_xml(text: str) -> ElementTree.Element:
    """Return the root element of ``text``.

    Raises InvalidInput: malformed (with line and column), a DTD or entity, too large, too deep.
    """
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The domain XML has a character that is not valid Unicode at offset {error.start}.",
            hint="Save the file as UTF-8.",
        ) from error
    if len(encoded) > MAX_BYTES:
        raise InvalidInput(
            f"The domain XML has {len(encoded)} bytes; at most {MAX_BYTES} are accepted.",
            hint="Is this the right file? `virsh dumpxml GUEST` prints a domain.",
        )
    if not encoded.strip():
        raise InvalidInput("The domain XML is empty.", hint="`virsh dumpxml GUEST` prints a domain to start from.")
    _inspect(encoded)
    return ElementTree.fromstring(encoded, parser=ElementTree.XMLParser(encoding="utf-8"))


def write_xml(root: ElementTree.Element) -> str:
    """Return the tree as text; the same tree gives the same text."""
    return ElementTree.tostring(root, encoding="unicode")


def _inspect(encoded: bytes) -> None:
    parser = expat.ParserCreate("utf-8", "}")  # aware of namespaces, as ElementTree is: the same texts are malformed
    depth = 0

    def start_element(_name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InvalidInput(
                f"The domain XML nests more than {MAX_DEPTH} elements deep at line {parser.CurrentLineNumber}.",
                hint="No libvirt domain does; check the file.",
            )

    def end_element(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def start_doctype(_name: str, _system: str | None, _public: str | None, _internal: bool) -> None:
        raise InvalidInput(
            f"The domain XML has a document type (line {parser.CurrentLineNumber}); DTDs and entities are refused.",
            hint="Remove the <!DOCTYPE …> part and write the values out.",
        )

    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.StartDoctypeDeclHandler = start_doctype
    try:
        parser.Parse(encoded, True)
    except expat.ExpatError as error:
        line, column = error.lineno, error.offset + 1
        raise InvalidInput(
            f"The domain XML is malformed at line {line}, column {column}: {expat.ErrorString(error.code)}.",
            hint="`virt-xml-validate FILE` shows more; `virsh dumpxml GUEST` prints a domain to start from.",
        ) from error
