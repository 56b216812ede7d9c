"""libiscsi as ctypes sees it: the few calls and structures that are used, and nothing about when to use them.

Source: libiscsi 1.19, ``iscsi/iscsi.h`` and ``iscsi/scsi-lowlevel.h``; its ABI is version 7 since 1.11.
"""

from __future__ import annotations

import ctypes as c
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_uint, c_uint32, c_void_p
from functools import cache
from typing import ClassVar, Final

from holdfast.storage.errors import InitiatorMissing

SONAME: Final = "libiscsi.so.7"
SESSION_DISCOVERY: Final = 1
SESSION_NORMAL: Final = 2
STATUS_REDIRECT: Final = 0x101
STATUS_CANCELLED: Final = 0x0F000000
"""From here on up a status is the library's own and no answer of the target."""
TASK_LUN_RESET: Final = 5
NO_TASK: Final = 0xFFFFFFFF
XFER_NONE, XFER_READ, XFER_WRITE = range(3)

CommandCallback = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_void_p)
"""(context, status, data, private): how every answer arrives."""


class ScsiSense(Structure):
    """``struct scsi_sense``."""

    _fields_: ClassVar = [
        ("error_type", c.c_ubyte),
        ("key", c_int),
        ("ascq", c_int),
        ("bits", c_uint),
    ]


class ScsiData(Structure):
    """``struct scsi_data``."""

    _fields_: ClassVar = [("size", c_int), ("data", c_void_p)]


class ScsiTask(Structure):
    """The beginning of ``struct scsi_task``."""

    _fields_: ClassVar = [
        ("status", c_int),
        ("cdb_size", c_int),
        ("xfer_dir", c_int),
        ("expxferlen", c_int),
        ("cdb", c.c_ubyte * 16),
        ("residual_status", c_int),
        ("residual", c.c_size_t),
        ("sense", ScsiSense),
        ("datain", ScsiData),
    ]


class IscsiData(Structure):
    """``struct iscsi_data``."""

    _fields_: ClassVar = [("size", c.c_size_t), ("data", c_char_p)]


class TargetPortal(Structure):
    """``struct iscsi_target_portal``."""


class DiscoveredTarget(Structure):
    """``struct iscsi_discovery_address``."""


TargetPortal._fields_ = [("next", POINTER(TargetPortal)), ("portal", c_char_p)]
DiscoveredTarget._fields_ = [
    ("next", POINTER(DiscoveredTarget)),
    ("target_name", c_char_p),
    ("portals", POINTER(TargetPortal)),
]

_PROTOTYPES: Final = {
    "iscsi_create_context": (c_void_p, [c_char_p]),
    "iscsi_destroy_context": (c_int, [c_void_p]),
    "iscsi_set_targetname": (c_int, [c_void_p, c_char_p]),
    "iscsi_set_session_type": (c_int, [c_void_p, c_int]),
    "iscsi_set_isid_random": (c_int, [c_void_p, c_uint32, c_uint32]),
    "iscsi_set_initiator_username_pwd": (c_int, [c_void_p, c_char_p, c_char_p]),
    "iscsi_set_target_username_pwd": (c_int, [c_void_p, c_char_p, c_char_p]),
    "iscsi_set_noautoreconnect": (None, [c_void_p, c_int]),
    "iscsi_set_tcp_syncnt": (None, [c_void_p, c_int]),
    "iscsi_get_error": (c_char_p, [c_void_p]),
    "iscsi_get_target_address": (c_char_p, [c_void_p]),
    "iscsi_get_fd": (c_int, [c_void_p]),
    "iscsi_which_events": (c_int, [c_void_p]),
    "iscsi_service": (c_int, [c_void_p, c_int]),
    "iscsi_connect_async": (c_int, [c_void_p, c_char_p, CommandCallback, c_void_p]),
    "iscsi_login_async": (c_int, [c_void_p, CommandCallback, c_void_p]),
    "iscsi_logout_async": (c_int, [c_void_p, CommandCallback, c_void_p]),
    "iscsi_discovery_async": (c_int, [c_void_p, CommandCallback, c_void_p]),
    "iscsi_scsi_command_async": (
        c_int,
        [c_void_p, c_int, c_void_p, CommandCallback, POINTER(IscsiData), c_void_p],
    ),
    "iscsi_task_mgmt_async": (c_int, [c_void_p, c_int, c_int, c_uint32, c_uint32, CommandCallback, c_void_p]),
    "iscsi_task_mgmt_abort_task_async": (c_int, [c_void_p, c_void_p, CommandCallback, c_void_p]),
    "scsi_create_task": (c_void_p, [c_int, c_char_p, c_int, c_int]),
    "scsi_free_scsi_task": (None, [c_void_p]),
}


@cache
def libiscsi() -> c.CDLL:
    """Return the library with its prototypes set. Raises InitiatorMissing."""
    try:
        library = c.CDLL(SONAME)
    except OSError as error:
        message = f"{SONAME} is not on this host: LUNs by iSCSI in user space need it"
        raise InitiatorMissing(message, hint="install libiscsi7 (Debian) or libiscsi (Fedora)") from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def task_data(task: int) -> bytes:
    """Return what came with an answer: data, or with CHECK CONDITION two bytes of length and the sense data."""
    datain = c.cast(task, POINTER(ScsiTask)).contents.datain
    return c.string_at(datain.data, datain.size) if datain.data and datain.size > 0 else b""
