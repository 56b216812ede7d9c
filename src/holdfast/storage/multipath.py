"""LUNs behind device-mapper multipath: registrations go to all paths at once, through mpathpersist.

Rule of the file: only PERSISTENT RESERVE OUT is special. Everything else goes to the multipath device by SG_IO, and the
kernel hands it to a path that works. mpathpersist is judged by its exit code, never by its words.
Source: mpathpersist(8); libmpathpersist, ``mpath_persist.h``.
"""

from __future__ import annotations

from typing import Final

from holdfast import programs
from holdfast.storage.scsi.command import Command, OperationCode
from holdfast.storage.scsi.reservations import OutAction, ReserveOut, decode_reserve_out
from holdfast.storage.scsi.sense import Sense, SenseKey
from holdfast.storage.scsi.status import Status
from holdfast.storage.sg_io import SgIoTransport
from holdfast.storage.transport import Answer, Lost, Reply, Unsent

_ACTIONS: Final = {
    OutAction.REGISTER: "--register",
    OutAction.REGISTER_AND_IGNORE_EXISTING_KEY: "--register-ignore",
    OutAction.RESERVE: "--reserve",
    OutAction.RELEASE: "--release",
    OutAction.CLEAR: "--clear",
    OutAction.PREEMPT: "--preempt",
    OutAction.PREEMPT_AND_ABORT: "--preempt-abort",
}


def mpathpersist_arguments(request: ReserveOut, device: str) -> tuple[str, ...]:
    """Return the arguments that make mpathpersist carry a PERSISTENT RESERVE OUT out on a multipath device."""
    arguments = ["--out", _ACTIONS[request.action], f"--param-rk={request.key:x}"]
    arguments.append(f"--param-sark={request.service_key:x}")
    if request.type is not None:
        arguments.append(f"--prout-type={request.type:d}")
    if request.survives_power_loss:
        arguments.append("--param-aptpl")
    if request.all_target_ports:
        arguments.append("--param-alltgpt")
    return (*arguments, device)


def reply_of_exit(code: int, output: str) -> Reply:
    """Return what an exit code says about the command.

    An illegal request is told as an invalid field, for mpathpersist does not say which: callers then try another way.
    """
    words = " ".join(output.split()) or "no words"
    match code:
        case 0:
            return Answer(status=Status.GOOD)
        case 11:
            return Answer(status=Status.RESERVATION_CONFLICT)
        case 2:
            return _check_condition(SenseKey.NOT_READY, 0x0400)
        case 5:
            return _check_condition(SenseKey.ILLEGAL_REQUEST, 0x2400)
        case 6:
            return _check_condition(SenseKey.UNIT_ATTENTION, 0x0000)
        case 7:
            return _check_condition(SenseKey.ILLEGAL_REQUEST, 0x2000)
        case 1 | 12:
            return Unsent(words=f"mpathpersist ended with {code}: {words}")
        case _:
            return Lost(words=f"mpathpersist ended with {code}: {words}")


class MultipathTransport:
    """A `Transport` over a multipath device such as ``/dev/mapper/mpatha``.

    multipathd must be told the key (``reservation_key file`` in multipath.conf), so that it registers paths that come
    back.
    """

    def __init__(self, device: str, *, program: str = "mpathpersist") -> None:
        self._device = device
        self._program = program
        self._plain = SgIoTransport(device)

    @property
    def path(self) -> str:
        """See `Transport`."""
        return self._device

    async def execute(self, command: Command, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        if command.operation != OperationCode.PERSISTENT_RESERVE_OUT:
            return await self._plain.execute(command, timeout_ms=timeout_ms)
        arguments = mpathpersist_arguments(decode_reserve_out(command), self._device)
        try:
            ended = await programs.run(self._program, *arguments, within_s=timeout_ms / 1000, is_merged=True)
        except TimeoutError:
            return Lost(words=f"mpathpersist did not end within {timeout_ms} ms")
        except OSError as error:
            return Unsent(words=f"{self._program} (of multipath-tools) cannot be run: {error.strerror}")
        return reply_of_exit(ended.exit_code, ended.output)

    async def reset_logical_unit(self, *, timeout_ms: int) -> Reply:
        """See `Transport`."""
        return await self._plain.reset_logical_unit(timeout_ms=timeout_ms)

    async def close(self) -> None:
        """See `Transport`."""
        await self._plain.close()


def _check_condition(key: SenseKey, code: int) -> Answer:
    return Answer(status=Status.CHECK_CONDITION, sense=Sense(key=key, code=code).encode())
