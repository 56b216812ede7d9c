"""iscsiadm for the tests: the real one with records of its own, and a stand-in for what needs a kernel with iSCSI.

The stand-in keeps records where and as the real one does; that it does so is what the tests that run on both show.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from holdfast.storage.open_iscsi.initiator import OpenIscsi

NAME = "iqn.2026-11.net.holdfast:this-node"
INSTALLED = shutil.which("iscsiadm", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
STAND_IN = """#!/usr/bin/env python3
import pathlib, shutil, sys
home = pathlib.Path(@HOME@)
words = sys.argv[1:]
with (home / "asked").open("a") as log:
    log.write(" ".join(words) + "\\n")
def after(option):
    return [words[i + 1] for i, word in enumerate(words) if word == option]
mode, = after("-m")
op = (after("-o") or [""])[0]
if mode == "session":
    listing = home / "listing"
    if not listing.exists():
        sys.exit(21)
    print(listing.read_text() if "-P" in words else "")
    sys.exit(0)
target, = after("-T")
folder = home / "iscsi/nodes" / target
if after("-p"):
    address, _, group = after("-p")[0].partition(",")
    host, _, port = address.rpartition(":")
    places = [folder / f"{host.strip('[]')},{port},{group or 1}"]
else:
    places = sorted(folder.iterdir()) if folder.is_dir() else []
records = [place / "default" for place in places if (place / "default").exists()]
if op == "new":
    places[0].mkdir(parents=True, exist_ok=True)
    record = places[0] / "default"
    record.write_text("# BEGIN RECORD\\nnode.name = %s\\nnode.startup = manual\\n# END RECORD\\n" % target)
    record.chmod(0o600)
    sys.exit(0)
if not records:
    sys.exit(21)
if op == "update":
    given = dict(zip(after("-n"), after("-v")))
    for record in records:
        lines = [l for l in record.read_text().splitlines() if l.partition(" = ")[0] not in given]
        lines[-1:-1] = [f"{name} = {value}" for name, value in given.items()]
        record.write_text("\\n".join(lines) + "\\n")
elif op == "delete":
    for record in records:
        shutil.rmtree(record.parent)
elif "--login" in words or "--logout" in words:
    answers = dict(line.split() for line in (home / "exits").read_text().splitlines())
    if (code := answers.get(after("-p")[0].partition(",")[0], answers["*"])) == "hangs":
        import time
        time.sleep(60)
    sys.exit(int(code))
"""
REAL = """#!/bin/sh
echo "$@" >>@HOME@/asked
exec unshare --mount --net sh -ec '
  mount --make-rprivate /
  mount --bind @HOME@/iscsi /etc/iscsi
  mount -t tmpfs tmpfs /run/lock
  exec @REAL@ "$@"' iscsiadm "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An initiator whose records and log of questions are in `home`."""

    home: Path
    initiator: OpenIscsi

    @property
    def asked(self) -> str:
        """Every argument that iscsiadm was given, one run per line."""
        log = self.home / "asked"
        return log.read_text() if log.exists() else ""

    def records(self) -> list[Path]:
        """The records there are."""
        return sorted(path for path in (self.home / "iscsi").glob("nodes/*/*/*") if path.is_file())

    def logins_end_with(self, code: object, **portals: object) -> None:
        """Say how a login or logout ends; `portals` by ``ADDRESS:PORT``. Only the stand-in listens."""
        lines = [f"{portal} {one}" for portal, one in {"*": code, **portals}.items()]
        (self.home / "exits").write_text("\n".join(lines))

    def list_sessions(self, text: str) -> None:
        """Say what is listed as sessions. Only the stand-in listens."""
        (self.home / "listing").write_text(text)


def make_bench(home: Path, *, real: str | None = None, login_ms: int = 10_000) -> Bench:
    """Return a bench in an empty folder: on the program at `real`, or on the stand-in."""
    (home / "iscsi").mkdir(parents=True)
    (home / "iscsi/initiatorname.iscsi").write_text(f"## made at first boot\nInitiatorName={NAME}\n")
    for name, script in {"iscsiadm": REAL if real else STAND_IN, "udevadm": 'echo "$@" >@HOME@/settled'}.items():
        path = home / name
        shebang = "" if script.startswith("#!") else "#!/bin/sh\n"
        place = str(home) if real or name == "udevadm" else repr(str(home))
        path.write_text(shebang + script.replace("@HOME@", place).replace("@REAL@", str(real)))
        path.chmod(0o755)
    bench = Bench(
        home=home,
        initiator=OpenIscsi(
            program=str(home / "iscsiadm"),
            settle=str(home / "udevadm"),
            initiator_file=home / "iscsi/initiatorname.iscsi",
            roots=(home / "nothing-here", home / "iscsi"),
            sysfs=home / "sys",
            login_ms=login_ms,
        ),
    )
    bench.logins_end_with(20)  # as the real one does where no iscsid is
    return bench
