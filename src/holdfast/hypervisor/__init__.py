"""The hypervisor of this node: a small port, libvirt behind it, and a simulated twin."""
