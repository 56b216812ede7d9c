"""What could fail now without loss of quorum, in one sentence.

Rule of the file: pure; it counts voters that the answering node sees as up, and promises nothing for those it does not.
"""

from __future__ import annotations

from collections.abc import Collection

from holdfast.model.ids import NodeName


def spare_voters(voters: Collection[NodeName], up: Collection[NodeName]) -> int:
    """How many voters more may fail; negative: so many are missing to a majority."""
    return len(set(voters) & set(up)) - (len(voters) // 2 + 1)


def what_may_fail(voters: Collection[NodeName], up: Collection[NodeName]) -> str:
    """Say what may fail now, and what would help when nothing may."""
    spare = spare_voters(voters, up)
    living = sorted(set(voters) & set(up))
    down = ", ".join(sorted(set(voters) - set(up)))
    if spare < 0:
        needed = len(voters) // 2 + 1
        return (
            f"There is no quorum: {len(living)} of {len(voters)} voters are up, {needed} are needed; decisions are "
            f"frozen until one of these is back: {down}; guests run on where at least half of the voters hear their "
            "node."
        )
    if len(voters) == 1:
        return (
            f"{living[0]} has the only vote: any other node may fail, but if it fails, decisions freeze; "
            "three machines that vote would let any one of them fail, and one may be a witness."
        )
    if spare == 0:
        return f"None of {', '.join(living)} may fail now, because {down} is down; any node without a vote may."
    which = "Any one" if spare == 1 else f"Any {spare}"
    return f"{which} of {', '.join(living)} may fail now, and any number of nodes without a vote."
