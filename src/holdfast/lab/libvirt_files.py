"""libvirt's configuration on a lab node.

Rule of the file: every setting has its reason; the host uuid is the node's own, or libvirt refuses migration as "same
host". Source: libvirtd.conf, qemu.conf.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from holdfast.lab.layout import NodeLayout

_QEMU = """\
# The node is a set of namespaces without a security driver or cgroups of its own.
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
"""

_TLS_OFF, _TLS_ON = "listen_tls = 0\n", "listen_tls = 1\n"
_LIBVIRTD = f"""\
# Plain TCP is for comparison: the lab's networks exist only inside this machine. TLS needs the cluster's certificates.
{_TLS_OFF}listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{{host_uuid}}"
"""


def write_libvirt_files(node: NodeLayout) -> None:
    """Write the configuration once; it is disk-like, so a later boot keeps what is there."""
    folder = node.on_disk("/etc/libvirt")
    if (folder / "libvirtd.conf").exists():
        return
    (folder / "qemu").mkdir(parents=True, exist_ok=True)
    (folder / "qemu.conf").write_text(_QEMU)
    (folder / "libvirtd.conf").write_text(_LIBVIRTD.format(host_uuid=uuid.uuid4()))


def listen_for_tls(libvirt_folder: Path) -> bool:
    """Have a node's libvirtd listen for TLS when it starts next; returns False when it does already."""
    path = libvirt_folder / "libvirtd.conf"
    text = path.read_text()
    path.write_text(text.replace(_TLS_OFF, _TLS_ON))
    return _TLS_OFF in text
