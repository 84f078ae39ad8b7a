"""Interrupt work at a chosen moment, as Ctrl-C does: where the interpreter looks for signals.

That is in calls, at jumps back, and at the beginning of a function; not between a lock's
``__enter__`` in C and its block, nor between the block and its ``__exit__``.
"""

import dis
import gc
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType, ModuleType
from typing import Any

__all__ = ["Interrupted", "interrupted_at"]

_LOOKS = ("CALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD", "RESUME", "SEND")


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, on which pytest would act."""


def interrupted_at(moment: int, work: Callable[[], Any], *modules: ModuleType) -> bool:
    """Do work, and raise at its moment of this number in modules; False if it has fewer."""
    files = {module.__file__ for module in modules}
    last: dict[FrameType, int] = {}
    left = moment

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "return":
            last.pop(frame, None)
        elif event == "opcode":
            before, last[frame] = last.get(frame), frame.f_lasti
            if _is_moment(frame.f_code, before, frame.f_lasti):
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise Interrupted
        return trace

    traced, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # it would run others' __del__ in between
    sys._getframe().f_trace_opcodes = True  # 3.12 looks for it when tracing begins
    sys.settrace(trace)
    try:
        work()
    except Interrupted:
        return True
    finally:
        sys.settrace(traced)
        last.clear()  # frames of what was cut off, which hold it
        if collects:
            gc.enable()
    return left < 0


def _is_moment(code: CodeType, before: int | None, now: int) -> bool:
    """Say whether a signal handled in the opcode ``before`` is like an error before ``now``."""
    if before is None:
        return True
    looks = _names(code)[before].startswith(_LOOKS)
    return looks and _handler(code, before) == _handler(code, now)


@cache
def _names(code: CodeType) -> dict[int, str]:
    return {one.offset: one.opname for one in dis.get_instructions(code)}


@cache
def _handler(code: CodeType, offset: int) -> int | None:
    found = [
        entry.target
        for entry in dis._parse_exception_table(code)  # type: ignore[attr-defined]
        if entry.start <= offset < entry.end
    ]
    return found[0] if found else None
