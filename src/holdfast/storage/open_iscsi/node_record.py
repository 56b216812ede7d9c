"""open-iscsi's record of a target and portal, where a secret must be written.

Rule of the file: iscsiadm takes a password only as an argument, which every user of the machine can read while it runs;
so the secret is written where iscsiadm itself would write it, with the same rights: for root alone.
Source: open-iscsi, ``usr/idbm.c``: one ``name = value`` per line, at most 255 bytes each, spaces around it are dropped;
a record is ``nodes/TARGET/ADDRESS,PORT,GROUP/INTERFACE``. Debian keeps ``nodes`` in
/etc/iscsi, Red Hat in /var/lib/iscsi.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from holdfast.model.errors import InvalidInput
from holdfast.storage.iscsi.address import Chap

ROOTS: Final = (Path("/etc/iscsi"), Path("/var/lib/iscsi"))
VALUE_BYTES: Final = 255
_AUTH: Final = "node.session.auth."


def find_records(target: str, portal: str, roots: Sequence[Path] = ROOTS) -> tuple[Path, ...]:
    """Return the records of a target and portal (``ADDRESS:PORT``), one per interface. Blocks."""
    address, _, port = portal.rpartition(":")
    wanted = f"{address.strip('[]')},{port}"
    found: list[Path] = []
    for root in roots:
        folder = root / "nodes" / target
        for place in sorted(folder.iterdir()) if folder.is_dir() else ():
            if place.name == wanted or place.name.startswith(f"{wanted},"):
                found += sorted(place.iterdir()) if place.is_dir() else [place]
    return tuple(found)


def chap_fields(chap: Chap) -> Mapping[str, str]:
    """Return what a record says for CHAP. Raises InvalidInput for what open-iscsi would read as something else."""
    fields = {"authmethod": "CHAP", "username": chap.user, "password": chap.password}
    if chap.target_user:
        fields |= {"username_in": chap.target_user, "password_in": chap.target_password}
    for name, value in fields.items():
        if not value.isprintable() or value != value.strip() or not 0 < len(value.encode()) <= VALUE_BYTES:
            raise InvalidInput(
                f"the {name} of CHAP cannot be kept by open-iscsi",
                hint=f"1 to {VALUE_BYTES} bytes, all printable, without spaces at either end",
            )
    return {f"{_AUTH}{name}": value for name, value in fields.items()}


def write_fields(record: Path, fields: Mapping[str, str]) -> None:
    """Put fields into a record, whole or not at all. Blocks. Raises OSError."""
    kept = [
        line for line in record.read_text(encoding="utf-8").splitlines() if line.partition("=")[0].strip() not in fields
    ]
    end = next((number for number, line in enumerate(kept) if line.startswith("# END RECORD")), len(kept))
    lines = [*kept[:end], *(f"{name} = {value}" for name, value in fields.items()), *kept[end:]]
    # Beside the records, not among them: whatever lies among them is read as one.
    descriptor, aside = tempfile.mkstemp(prefix=".holdfast-", dir=_root_of(record))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(record)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _root_of(record: Path) -> Path:
    return next(parent.parent for parent in record.parents if parent.name == "nodes")
