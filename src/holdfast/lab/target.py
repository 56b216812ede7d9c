"""The storage node's iSCSI target: tgtd as a service, set up anew at each of its starts.

Rule of the file: nobody may log in before every LUN is there, so the target is bound to its initiators last. tgtd keeps
registrations and reservations in memory: whoever restarts it has made it forget them. Source: tgtd(8), tgtadm(8).
"""

from __future__ import annotations

from holdfast.lab.layout import Layout
from holdfast.lab.luns import CHAP_SECRET, CHAP_USER, LUNS_FOLDER, StorageSpec, luns_of, portal, target_name
from holdfast.lab.spec import Service

TARGET_SERVICE = "tgtd"
_PATIENCE_STEPS = 400
ALL_SET = "/run/holdfast-target-set"
"""Exists on the storage node once its target, since its last start, takes logins."""


def target_service(layout: Layout, storage: StorageSpec) -> Service:
    """Return the service: it becomes tgtd itself, so that killing it kills tgtd, while a child sets tgtd up.

    The child is no child of tgtd's (the doubled parentheses), which would not reap it.
    """
    steps = "\n".join(f"tgtadm --lld iscsi {step}" for step in _steps(layout, storage))
    script = f"""\
rm -f {ALL_SET}
(
  {{
    tries=0
    until tgtadm --op show --mode sys >/dev/null 2>&1; do
      tries=$((tries + 1))
      [ $tries -lt {_PATIENCE_STEPS} ] || exit 1
      sleep 0.05
    done
    set -e
    {steps}
    touch {ALL_SET}
  }} &
)
exec /usr/sbin/tgtd --foreground --iscsi portal={portal()}
"""
    return Service(name=TARGET_SERVICE, command=("/bin/sh", "-c", script))


def _steps(layout: Layout, storage: StorageSpec) -> list[str]:
    steps = [f"--op new --mode target --tid 1 -T {target_name(layout)}"]
    for lun in luns_of(layout, storage):
        unit = f"--mode logicalunit --tid 1 --lun {lun.number}"
        names = f"vendor_id=HOLDFAST,product_id=LAB-LUN,scsi_id={lun.serial},scsi_sn={lun.serial}"
        steps += [
            f"--op new {unit} --bstype rdwr -b {LUNS_FOLDER / lun.path.name}",
            f"--op update {unit} --params {names}",
        ]
    if storage.has_chap:
        steps += [
            f"--op new --mode account --user {CHAP_USER} --password {CHAP_SECRET}",
            f"--op bind --mode account --tid 1 --user {CHAP_USER}",
        ]
    return [*steps, "--op bind --mode target --tid 1 -I ALL"]
