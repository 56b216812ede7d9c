"""open-iscsi: what its exit codes and listings say, its records, and what the kernel tells of its disks."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from holdfast.model.kernel_sessions import KernelSession, SessionDisk
from holdfast.storage.errors import InitiatorFailed, InitiatorMissing, LoginRefused, LunUnreachable
from holdfast.storage.iscsi.address import Chap
from holdfast.storage.open_iscsi.block_devices import identified
from holdfast.storage.open_iscsi.exit_codes import ExitCode, error_of
from holdfast.storage.open_iscsi.initiator import warnings_of
from holdfast.storage.open_iscsi.listing import parse_sessions
from holdfast.storage.open_iscsi.node_record import chap_fields, find_records, write_fields

# Printed by iscsiadm 2.1.3 against an EMC array: the beginning of https://github.com/flatcar/Flatcar/issues/349
EMC = """iSCSI Transport Class version 2.0-870
version 2.1.3
Target: iqn.1992-04.com.emc:cx.apm00191923511.a4 (non-flash)
\tCurrent Portal: 10.1.53.160:3260,1
\tPersistent Portal: 10.1.53.160:3260,1
\t\t**********
\t\tInterface:
\t\t**********
\t\tIface Name: default
\t\tIface Transport: tcp
\t\tIface Initiatorname: iqn.2016-04.com.flatcar.iscsi:05c4437a5af8466eb19bbe2c1bad2903
\t\tIface IPaddress: 172.16.160.122
\t\tIface HWaddress: default
\t\tIface Netdev: default
\t\tSID: 1
\t\tiSCSI Connection State: LOGGED IN
\t\tiSCSI Session State: LOGGED_IN
\t\tInternal iscsid Session State: NO CHANGE
\t\t*********
\t\tTimeouts:
\t\t*********
\t\tRecovery Timeout: 5
\t\tTarget Reset Timeout: 30
\t\tLUN Reset Timeout: 30
\t\tAbort Timeout: 15
\t\t*****
\t\tCHAP:
\t\t*****
\t\tusername: <empty>
\t\tpassword: ********
\t\tusername_in: <empty>
\t\tpassword_in: ********
\t\t************************
\t\tNegotiated iSCSI params:
\t\t************************
\t\tHeaderDigest: None
\t\tDataDigest: None
\t\tMaxRecvDataSegmentLength: 262144
\t\tMaxXmitDataSegmentLength: 65536
\t\tFirstBurstLength: 0
\t\tMaxBurstLength: 262144
\t\tImmediateData: No
\t\tInitialR2T: Yes
\t\tMaxOutstandingR2T: 1
\t\t************************
\t\tAttached SCSI devices:
\t\t************************
\t\tHost Number: 7\tState: running
\t\tscsi7 Channel 00 Id 0 Lun: 0
\t\t\tAttached scsi disk sdb\t\tState: running
"""
# Printed by iscsiadm 6.2.0.878-2: the beginning of https://github.com/longhorn/longhorn/issues/1920 (spaces for tabs)
BROKEN = """iSCSI Transport Class version 2.0-870
version 6.2.0.878-2
Target: iqn.2019-10.io.longhorn:isotools-db-data-datapump (non-flash)
        Current Portal: 10.244.2.195:3260,1
        Persistent Portal: 10.244.2.195:3260,1
                **********
                Interface:
                **********
                Iface Name: default
                Iface Transport: tcp
                Iface Initiatorname: iqn.1994-05.com.redhat:c451ed2aae8
                Iface IPaddress: [default]
                Iface HWaddress: default
                Iface Netdev: default
                SID: 104
                iSCSI Connection State: TRANSPORT WAIT
                iSCSI Session State: FREE
                Internal iscsid Session State: REOPEN
                *********
                Timeouts:
                *********
                Recovery Timeout: 120
"""
# By open-iscsi's usr/session_info.c: a target that is as before is not named again, nor is a portal; IPv6 has brackets.
SEVERAL = """Target: iqn.2026-11.a:b (non-flash)
\tCurrent Portal: 192.0.2.2:3260,2
\tPersistent Portal: 192.0.2.2:3260,2
\t\tSID: 3
\t\tiSCSI Session State: FAILED
\t\tHost Number: 3\tState: running
\t\tscsi3 Channel 00 Id 0 Lun: 0
\t\tscsi3 Channel 00 Id 0 Lun: 12
\t\t\tAttached scsi disk sdaa\t\tState: transport-offline

\t\tSID: 4
\t\tiSCSI Session State: LOGGED_IN
\tCurrent Portal: [2001:db8::1]:3260,1
\tPersistent Portal: [2001:db8::1]:3260,1
\t\tSID: 2
\t\tiSCSI Session State: LOGGED_IN
\t\tRecovery Timeout: -1
"""


def test_a_session_of_an_array_is_read() -> None:
    assert parse_sessions(EMC) == (
        KernelSession(
            id=1,
            target="iqn.1992-04.com.emc:cx.apm00191923511.a4",
            portal="10.1.53.160:3260",
            state="LOGGED_IN",
            initiator="iqn.2016-04.com.flatcar.iscsi:05c4437a5af8466eb19bbe2c1bad2903",
            replacement_timeout_s=5,
            disks=(SessionDisk(lun=0, device="/dev/sdb", state="running"),),
        ),
    )


def test_a_session_that_broke_is_read_as_such() -> None:
    [session] = parse_sessions(BROKEN)
    assert (session.id, session.state, session.is_logged_in) == (104, "FREE", False)
    assert (session.replacement_timeout_s, session.disks) == (120, ())


def test_sessions_that_share_a_target_or_a_portal_are_told_apart() -> None:
    found = parse_sessions(SEVERAL)
    assert {session.target for session in found} == {"iqn.2026-11.a:b"}
    assert [(session.id, session.portal, session.state) for session in found] == [
        (3, "192.0.2.2:3260", "FAILED"),
        (4, "192.0.2.2:3260", "LOGGED_IN"),
        (2, "[2001:db8::1]:3260", "LOGGED_IN"),
    ]
    assert found[0].disks == (SessionDisk(lun=12, device="/dev/sdaa", state="transport-offline"),)
    assert found[2].replacement_timeout_s == -1


def test_nothing_of_a_listing_that_is_none_is_taken() -> None:
    assert parse_sessions("") == ()
    assert parse_sessions("\t\t\tAttached scsi disk sdb\t\tState: running\nRecovery Timeout: 5\n") == ()


@pytest.mark.parametrize("code", [code for code in ExitCode if code is not ExitCode.SUCCESS])
def test_every_exit_code_is_named_with_a_next_step(code: ExitCode) -> None:
    error = error_of(code, about="iqn.2026-11.a:b through 192.0.2.1:3260", output="iscsiadm: words")
    assert error.message.startswith("iqn.2026-11.a:b through 192.0.2.1:3260: ")
    assert f"ended with {code:d}" in error.message
    assert error.hint
    is_never_asked_for = code.name.startswith("ISNS") or code is ExitCode.UNKNOWN_DISCOVERY_TYPE
    assert ("iscsiadm: words" in error.message) == is_never_asked_for


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (12, InitiatorMissing, "modprobe iscsi_tcp"),
        (20, InitiatorFailed, "iscsid"),
        (24, LoginRefused, "password"),
        (8, LunUnreachable, "portal"),
        (250, InitiatorFailed, "journalctl"),
        (-9, InitiatorFailed, "journalctl"),
    ],
)
def test_exit_codes_become_errors_that_tell_apart_what_to_do(code: int, kind: type, hint: str) -> None:
    error = error_of(code, about="it")
    assert type(error) is kind
    assert hint in error.hint


@pytest.mark.parametrize(
    ("place", "portal"),
    [
        ("192.0.2.1,3260,1/default", "192.0.2.1:3260"),
        ("192.0.2.1,3260", "192.0.2.1:3260"),
        ("2001:db8::1,3260,3/default", "[2001:db8::1]:3260"),
    ],
    ids=["group", "without-group", "ipv6"],
)
def test_records_are_found_by_portal(tmp_path: Path, place: str, portal: str) -> None:
    record = tmp_path / "nodes/iqn.2026-11.a:b" / place
    other = tmp_path / "nodes/iqn.2026-11.a:b/192.0.2.1,32601,1/default"
    for path in (record, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_records("iqn.2026-11.a:b", portal, (tmp_path / "none", tmp_path)) == (record,)
    assert find_records("iqn.2026-11.a:c", portal, (tmp_path,)) == ()


def test_fields_of_a_record_are_replaced_whole(tmp_path: Path) -> None:
    record = tmp_path / "nodes/t/p/default"
    record.parent.mkdir(parents=True)
    record.write_text(
        "# BEGIN RECORD 2.1.8\nnode.startup = automatic\nnode.session.auth.password = old\n# END RECORD\n"
    )
    record.chmod(0o644)
    chap = Chap(user="me", password="new = one", target_user="it", target_password="its own")
    write_fields(record, chap_fields(chap))
    assert record.read_text() == (
        "# BEGIN RECORD 2.1.8\nnode.startup = automatic\nnode.session.auth.authmethod = CHAP\n"
        "node.session.auth.username = me\nnode.session.auth.password = new = one\n"
        "node.session.auth.username_in = it\nnode.session.auth.password_in = its own\n# END RECORD\n"
    )
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "nodes"]


def test_a_record_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    record = tmp_path / "nodes/t/p/default"
    record.parent.mkdir(parents=True)
    record.write_text("node.startup = automatic\n")
    with pytest.raises(UnicodeEncodeError):
        write_fields(record, {"node.session.auth.password": "\udc80"})
    assert record.read_text() == "node.startup = automatic\n"
    assert list(tmp_path.rglob(".holdfast-*")) == []


def test_a_disk_is_known_by_its_wwid_and_its_multipath_device_by_its_uuid(tmp_path: Path) -> None:
    block = tmp_path / "block"
    for name, wwid in (("sdb", "naa.6001405a1\n"), ("sdc", "t10.IET     1 "), ("sdd", "naa.6001405a1\n")):
        (block / name / "device").mkdir(parents=True)
        (block / name / "device/wwid").write_text(wwid)
    for name, uuid in (("dm-1", "LVM-abc\n"), ("dm-3", "mpath-36001405a1\n")):
        (block / name / "dm").mkdir(parents=True)
        (block / name / "dm/uuid").write_text(uuid)
        (block / "sdb/holders" / name).mkdir(parents=True)
    (block / "sdd/holders/dm-1").mkdir(parents=True)

    def look(name: str) -> tuple[str, str | None, str]:
        seen = identified(SessionDisk(lun=1, device=f"/dev/{name}", state="running"), tmp_path)
        return seen.wwid, seen.multipath, seen.way

    assert look("sdb") == ("naa.6001405a1", "/dev/dm-3", "multipath:/dev/disk/by-id/dm-uuid-mpath-36001405a1")
    assert look("sdd") == ("naa.6001405a1", None, "sg:/dev/disk/by-id/wwn-0x6001405a1")
    assert look("sdc") == ("t10.IET     1", None, "")
    assert look("sdz") == ("", None, "")


def test_warnings_name_broken_sessions_and_paths_that_nothing_joins() -> None:
    def session(portal: str, state: str, multipath: str | None) -> KernelSession:
        disk = SessionDisk(lun=1, device=f"/dev/sd{portal}", state="running", wwid="naa.6", multipath=multipath)
        return KernelSession(id=1, target="iqn.2026-11.a:b", portal=portal, state=state, disks=(disk,))

    assert warnings_of([session("a", "LOGGED_IN", "/dev/dm-3"), session("b", "LOGGED_IN", "/dev/dm-3")]) == ()
    broken, alone = warnings_of([session("a", "FAILED", None), session("b", "LOGGED_IN", None)])
    assert broken == "iqn.2026-11.a:b through a is FAILED"
    assert "naa.6 has 2 paths (/dev/sda, /dev/sdb) and no multipath device" in alone
