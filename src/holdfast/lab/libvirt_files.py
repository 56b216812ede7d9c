"""libvirt's configuration on a lab node.

Rule of the file: every setting has its reason; the host uuid is the node's own, or libvirt refuses migration as "same
host". Source: libvirtd.conf, qemu.conf.
"""

from __future__ import annotations

import uuid

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

_LIBVIRTD = """\
# The cluster networks of the lab exist only inside this machine, so migration may use plain TCP here.
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{host_uuid}"
"""


def write_libvirt_files(node: NodeLayout) -> None:
    """Write the configuration once; it is disk-like, so a later boot keeps what is there."""
    folder = node.on_disk("/etc/libvirt")
    if (folder / "libvirtd.conf").exists():
        return
    (folder / "qemu").mkdir(parents=True, exist_ok=True)
    (folder / "qemu.conf").write_text(_QEMU)
    (folder / "libvirtd.conf").write_text(_LIBVIRTD.format(host_uuid=uuid.uuid4()))
