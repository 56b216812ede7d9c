"""Random schedules of storage failures against the real target and the real code of the nodes.

Two worlds play the same schedules: `light` has a process per node and a second per schedule, `full` is a lab. What is
real in which is told in docs/lab.md. In both the blocks of the LUN are the judge.
"""
