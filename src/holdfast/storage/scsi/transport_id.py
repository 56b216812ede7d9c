"""TransportIDs: how a target names an initiator's port. Source: SPC-4 clause 7.6.4."""

from __future__ import annotations

from holdfast.storage.scsi.bytes import field, number


def transport_name(transport_id: bytes) -> str:
    """Return an iSCSI name (with its session, if told), a world-wide name, or hexadecimal for anything else."""
    if len(transport_id) < 4:
        return transport_id.hex()
    match number(transport_id, 0, 1, "TransportID") & 0x0F:
        case 0x5:
            length = number(transport_id, 2, 2, "TransportID")
            return field(transport_id, 4, length, "TransportID").split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        case 0x0:
            return "0x" + field(transport_id, 8, 8, "TransportID").hex()
        case 0x6:
            return "0x" + field(transport_id, 4, 8, "TransportID").hex()
        case _:
            return transport_id.hex()


def iscsi_transport_id(name: str) -> bytes:
    """Return the TransportID of an iSCSI initiator; a name with `,i,0x…` names one session of it."""
    text = name.encode() + b"\0"
    text += bytes(-len(text) % 4)
    has_session = b",i,0x" in text
    return bytes((0x40 * has_session | 0x05, 0)) + len(text).to_bytes(2) + text
