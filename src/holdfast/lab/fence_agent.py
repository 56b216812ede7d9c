#!/usr/bin/python3 -IS
"""``fence_holdfast_lab``: the lab's fence device behind the standard interface of fence agents.

Rule of the file: options come as ``key=value`` lines on standard input or as arguments; the exit code is 0 for done or
on, 2 for off (action status only), 1 for everything else, and *off* succeeds only when the device reports off.
Standard library only and few imports, and run by a bare interpreter in the nodes: it is in the path of every failover.
Source: ClusterLabs fence-agents, doc/FenceAgentAPI.md.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable

DEFAULT_PATH = "/run/lab/power.sock"
ACTIONS = ("on", "off", "reboot", "status", "monitor", "list", "metadata")
_PARAMETERS = {
    "action": ("-o", "--action", "string", "reboot", "Fencing action"),
    "plug": ("-n", "--plug", "string", "", "Name of the outlet: the name of the node"),
    "path": ("", "--path", "string", DEFAULT_PATH, "Socket of the power switch"),
    "timeout": ("", "--timeout", "second", "60", "Seconds to wait for the power switch"),
}
_ALIASES = {"port": "plug", "nodename": "plug", "option": "action", "o": "action", "n": "plug"}


def metadata() -> str:
    """Return the agent's description of itself, in the XML that fence agents print."""
    parameters = "".join(
        f'<parameter name="{name}" unique="0" required="{int(name == "plug")}">'
        f'<getopt mixed="{", ".join(filter(None, (short, long)))}=[{name}]"/>'
        f'<content type="{kind}"' + (f' default="{default}"' if default else "") + "/>"
        f'<shortdesc lang="en">{text}</shortdesc></parameter>\n'
        for name, (short, long, kind, default, text) in _PARAMETERS.items()
    )
    actions = "".join(f'<action name="{name}" automatic="0"/>\n' for name in ACTIONS)
    return (
        '<?xml version="1.0" ?>\n'
        '<resource-agent name="fence_holdfast_lab" shortdesc="Fence agent for nodes of a Holdfast lab">\n'
        "<longdesc>Switches the power of the nodes of a lab, through the socket of its power switch.</longdesc>\n"
        f"<parameters>\n{parameters}</parameters>\n<actions>\n{actions}</actions>\n</resource-agent>\n"
    )


def read_options(arguments: list[str], lines: Iterable[str]) -> dict[str, str]:
    """Return the options by their canonical names; ``lines`` are read only when there are no arguments."""
    options = {name: default for name, (_, _, _, default, _) in _PARAMETERS.items()}
    pairs: list[tuple[str, str]] = []
    if arguments:
        words = iter(arguments)
        for word in words:
            name, has_value, value = word.lstrip("-").partition("=")
            pairs.append((name, value if has_value else next(words, "")))
    else:
        for line in lines:
            name, has_value, value = line.strip().partition("=")
            if has_value and not name.startswith("#"):
                pairs.append((name.strip(), value.strip()))
    options.update((_ALIASES.get(name, name), value) for name, value in pairs)
    return options


def _ask(options: dict[str, str], action: str) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(float(options["timeout"]))
        link.connect(options["path"])
        link.sendall(json.dumps({"action": action, "plug": options["plug"]}).encode() + b"\n")
        with link.makefile() as answer:
            line = answer.readline()
    if not line:
        raise ConnectionError("the power switch hung up")
    told: dict[str, object] = json.loads(line)
    if "error" in told:
        raise ConnectionError(str(told["error"]))
    return told


def run(options: dict[str, str]) -> int:
    """Carry out one action; returns the exit code."""
    action = options["action"]
    if action == "metadata":
        print(metadata(), end="")
        return 0
    if action not in ACTIONS:
        print(f"Failed: Unrecognised action '{action}', wanted one of {', '.join(ACTIONS)}", file=sys.stderr)
        return 1
    if action in ("on", "off", "reboot", "status") and not options["plug"]:
        print(f"Failed: You have to enter plug number or machine identification for action '{action}'", file=sys.stderr)
        return 1
    try:
        told = _ask(options, "list" if action == "monitor" else action)
    except (OSError, ValueError) as error:
        print(f"Failed: {action} {options['plug']} through {options['path']}: {error}", file=sys.stderr)
        return 1
    return _report(action, options["plug"], told)


def _report(action: str, plug: str, told: dict[str, object]) -> int:
    if action == "monitor":
        return 0
    if action == "list":
        plugs = told["plugs"]
        assert isinstance(plugs, list)
        print("".join(f"{name},{name}\n" for name in plugs), end="")
        return 0
    power = str(told["power"])
    if action == "status":
        print(f"Status: {power.upper()}")
        return {"on": 0, "off": 2}.get(power, 1)
    wanted = "off" if action == "off" else "on"
    if power != wanted:
        print(f"Failed: {plug} reports power {power!r} after {action}, wanted {wanted!r}", file=sys.stderr)
        return 1
    print(f"Success: {action} {plug}")
    return 0


def main() -> None:
    """Entry point of ``fence_holdfast_lab``."""
    sys.exit(run(read_options(sys.argv[1:], sys.stdin)))


if __name__ == "__main__":
    main()
