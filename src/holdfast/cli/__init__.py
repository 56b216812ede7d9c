"""The `holdfast` command: what a person asks, and how the answers look.

Rule of the package: it speaks to a node through its socket only. Modules of single commands are loaded when the command
runs, so `holdfast --help` and `--version` load click and nothing else.
"""
