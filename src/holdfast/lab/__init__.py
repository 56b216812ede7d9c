"""A datacenter on one machine: nodes as namespaces, with real libvirt and QEMU, plugs to pull and cables to cut.

Rule of the package: nothing in Holdfast knows that it runs here. The lab supplies machines, networks, a shared
directory, guests, a fence device with the standard fence-agent interface and a watchdog device, nothing else.
This module imports nothing, because the node's init and the fence agent must start in a few milliseconds.
"""
