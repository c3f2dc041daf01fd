"""Pickles read as data: a small machine for the opcodes that weights are written with, and no other.

Python's own unpickler looks up any name that a file asks for and calls it. This one looks up nothing: the few
names that weights need stand for functions of ours, every other name, and every opcode that fetches or calls
in another way, is refused. What it builds is bounded by the number of opcodes; no length is believed before
the bytes are there.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn, cast

from vtag.engine.errors import ModelError
from vtag.engine.text import printable

_MAX_OPCODES = 500_000  # Swin-B takes about 30,000; a million take seconds
_MAX_LINE = 1000  # bytes of a global's name
_MAX_INTEGER_BYTES = 64
_KEYS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class AllowedName:
    """A name that a pickle may ask for: called with a tuple of arguments, or (`call` None) passed on."""

    name: str
    call: Callable[[tuple[Any, ...]], Any] | None = None


class Buildable:
    """A value of ours that takes the state a pickle gives it (opcode BUILD)."""

    def build(self, state: Any) -> None:
        """Take `state`, or raise ModelError."""
        raise NotImplementedError


class BoundedReader:
    """A file from here on that never asks for more bytes than there are: a length is only a claim."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle = handle
        self._left = size

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return self._left

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises ModelError where the file has fewer."""
        if not 0 <= count <= self._left:
            raise ModelError("the file is cut short")
        data = self._handle.read(count)
        if len(data) != count:
            raise ModelError("the file is cut short")
        self._left -= count
        return data

    def skip(self, count: int) -> None:
        """Go on behind `count` bytes. Raises ModelError where the file has fewer."""
        if not 0 <= count <= self._left:
            raise ModelError("the file is cut short")
        self._handle.seek(count, 1)
        self._left -= count

    def readline(self) -> bytes:
        """A line with its end, of a bounded length."""
        line = self._handle.readline(min(_MAX_LINE, self._left))
        self._left -= len(line)
        return line


class _Mark:
    pass


class _Machine:
    """The stack, the memo, and one method an opcode."""

    def __init__(self, admitted: Mapping[str, AllowedName], persistent: Callable[[Any], Any] | None) -> None:
        self._admitted = admitted
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode. Raises ModelError for one that weights are not written with."""
        if opcode in _PUSHED_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > 8 * _MAX_INTEGER_BYTES:
                raise ModelError("it holds a number of absurd size")
            self._stack.append(argument)
        elif opcode in _PUSHED_NEW:
            self._stack.append(_PUSHED_NEW[opcode]())
        elif opcode in _TUPLES:
            self._stack.append(self._take(_TUPLES[opcode]))
        elif opcode in _METHODS:
            _METHODS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            _refuse(f"opcode {opcode}")

    def result(self) -> Any:
        """The value that is left at STOP."""
        if len(self._stack) != 1 or isinstance(self._stack[0], _Mark):
            raise ModelError("the pickle in it is damaged")
        return self._stack[0]

    def _take(self, count: int) -> tuple[Any, ...]:
        """The last `count` values off the stack."""
        if len(self._stack) < count:
            raise ModelError("the pickle in it is damaged")
        taken = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        if any(isinstance(value, _Mark) for value in taken):
            raise ModelError("the pickle in it is damaged")
        return taken

    def _take_to_mark(self) -> list[Any]:
        taken: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, _Mark):
                return taken[::-1]
            taken.append(value)
        raise ModelError("the pickle in it is damaged")

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ModelError("the pickle in it is damaged")
        return self._stack[-1]

    def _mark(self, _: Any) -> None:
        self._stack.append(_Mark())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._take_to_mark()))

    def _append(self, _: Any) -> None:
        (value,) = self._take(1)
        self._top(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._take_to_mark()
        self._top(list).extend(values)

    def _set_item(self, _: Any) -> None:
        self._set(list(self._take(2)))

    def _set_items(self, _: Any) -> None:
        self._set(self._take_to_mark())

    def _set(self, values: list[Any]) -> None:
        target = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, _KEYS):
                raise ModelError("a dictionary in it has a key that is neither text nor a number")
            target[key] = value

    def _put(self, index: Any) -> None:
        self._memo[index] = self._top(object)

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top(object)

    def _get(self, index: Any) -> None:
        if index not in self._memo:
            raise ModelError("the pickle in it is damaged")
        self._stack.append(self._memo[index])

    def _global(self, name: Any) -> None:
        self._admit(str(name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        self._admit(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def _admit(self, name: str) -> None:
        if name not in self._admitted:
            _refuse(name.replace(" ", "."))
        self._stack.append(self._admitted[name])

    def _reduce(self, _: Any) -> None:
        called, arguments = self._take(2)
        if not isinstance(called, AllowedName) or called.call is None or not isinstance(arguments, tuple):
            _refuse(
                called.name.replace(" ", ".") if isinstance(called, AllowedName) else type(called).__name__
            )
        self._stack.append(called.call(arguments))

    def _build(self, _: Any) -> None:
        (state,) = self._take(1)
        target = self._top(object)
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict) or not isinstance(state, dict):
            _refuse("opcode BUILD")  # of a dictionary it is its attributes (torch's `_metadata`): not needed

    def _persistent_id(self, _: Any) -> None:
        (identity,) = self._take(1)
        if self._persistent is None:
            _refuse("opcode BINPERSID")
        self._stack.append(self._persistent(identity))


_PUSHED_ARGUMENT = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_PUSHED_NEW: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
}
_TUPLES: Mapping[str, int] = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_METHODS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent_id,
}


def read_pickle(
    stream: BoundedReader,
    admitted: Mapping[str, AllowedName],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the pickle that `stream` begins with; what follows it stays unread.

    Args:
        admitted: what `module name` stands for; a name that is not in it is refused.
        persistent: makes a value of a persistent id (torch's storages).

    Raises ModelError for a pickle that is damaged or asks for anything else.
    """
    machine = _Machine(admitted, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
            if count >= _MAX_OPCODES:
                raise ModelError("the pickle in it has more steps than any checkpoint needs")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except (ValueError, OverflowError, struct.error) as error:
        raise ModelError("the pickle in it is damaged") from error
    raise ModelError("the pickle in it is cut short")


def _refuse(what: str) -> NoReturn:
    raise ModelError(
        f"it asks for {printable(what)[:80]!r}, which no weights need: it may be made to run code; "
        "nothing of it was run"
    )
