"""Reads pickles as data: a small machine for the opcodes of weights, and no others.

Python's own unpickler looks up and calls any name in a file. This one looks up nothing. The few names that weights
need stand for functions of vtag. Any other name, and any opcode that fetches or calls in another way, is refused.
The number of opcodes is limited, and a length in the file is checked against the bytes that follow.
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
    """A name that a pickle may contain. `call` takes a tuple of arguments; None if the name is only an argument."""

    name: str
    call: Callable[[tuple[Any, ...]], Any] | None = None


class Buildable:
    """A value that receives its state from a pickle (opcode BUILD)."""

    def build(self, state: Any) -> None:
        """Set the state, or raise ModelError."""
        raise NotImplementedError


class BoundedReader:
    """Reads the next `size` bytes of a file and never requests more: a length in the file may be wrong."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle = handle
        self._remaining = size

    @property
    def remaining(self) -> int:
        """The number of bytes that follow."""
        return self._remaining

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises ModelError if the file has fewer."""
        if not 0 <= count <= self._remaining:
            raise ModelError("the file is cut short")
        data = self._handle.read(count)
        if len(data) != count:
            raise ModelError("the file is cut short")
        self._remaining -= count
        return data

    def skip(self, count: int) -> None:
        """Skip `count` bytes. Raises ModelError if the file has fewer."""
        if not 0 <= count <= self._remaining:
            raise ModelError("the file is cut short")
        self._handle.seek(count, 1)
        self._remaining -= count

    def readline(self) -> bytes:
        """A line with its newline, up to a maximal length."""
        line = self._handle.readline(min(_MAX_LINE, self._remaining))
        self._remaining -= len(line)
        return line


class _Mark:
    pass


class _Machine:
    """The stack, the memo, and a method for each opcode."""

    def __init__(self, allowed: Mapping[str, AllowedName], persistent: Callable[[Any], Any] | None) -> None:
        self._allowed = allowed
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode. Raises ModelError for one that weights do not need."""
        if opcode in _PUSHED_ARGUMENT:
            if isinstance(argument, int) and argument.bit_length() > 8 * _MAX_INTEGER_BYTES:
                raise ModelError("it holds a number of absurd size")
            self._stack.append(argument)
        elif opcode in _PUSHED_NEW:
            self._stack.append(_PUSHED_NEW[opcode]())
        elif opcode in _TUPLES:
            self._stack.append(self._pop(_TUPLES[opcode]))
        elif opcode in _METHODS:
            _METHODS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            _refuse(f"opcode {opcode}")

    def result(self) -> Any:
        """The value on the stack at STOP."""
        if len(self._stack) != 1 or isinstance(self._stack[0], _Mark):
            raise ModelError("the pickle in it is damaged")
        return self._stack[0]

    def _pop(self, count: int) -> tuple[Any, ...]:
        """Pop the last `count` values of the stack."""
        if len(self._stack) < count:
            raise ModelError("the pickle in it is damaged")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        if any(isinstance(value, _Mark) for value in values):
            raise ModelError("the pickle in it is damaged")
        return values

    def _pop_to_mark(self) -> list[Any]:
        """Pop the values above the last mark, and the mark."""
        values: list[Any] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, _Mark):
                return values[::-1]
            values.append(value)
        raise ModelError("the pickle in it is damaged")

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ModelError("the pickle in it is damaged")
        return self._stack[-1]

    def _mark(self, _: Any) -> None:
        self._stack.append(_Mark())

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _append(self, _: Any) -> None:
        (value,) = self._pop(1)
        self._top(list).append(value)

    def _appends(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _set_item(self, _: Any) -> None:
        self._set(list(self._pop(2)))

    def _set_items(self, _: Any) -> None:
        self._set(self._pop_to_mark())

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
        self._push_name(str(name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        self._push_name(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def _push_name(self, name: str) -> None:
        if name not in self._allowed:
            _refuse(name.replace(" ", "."))
        self._stack.append(self._allowed[name])

    def _reduce(self, _: Any) -> None:
        target, arguments = self._pop(2)
        if not isinstance(target, AllowedName) or target.call is None or not isinstance(arguments, tuple):
            name = target.name.replace(" ", ".") if isinstance(target, AllowedName) else type(target).__name__
            _refuse(name)
        self._stack.append(target.call(arguments))

    def _build(self, _: Any) -> None:
        (state,) = self._pop(1)
        target = self._top(object)
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict) or not isinstance(state, dict):
            _refuse("opcode BUILD")  # a dictionary's attributes (torch's `_metadata`) are ignored

    def _persistent_id(self, _: Any) -> None:
        (identity,) = self._pop(1)
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
    allowed: Mapping[str, AllowedName],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value of the pickle at the start of `stream`. Bytes after it stay unread.

    Args:
        allowed: the allowed names, as `module name`.
        persistent: returns the value of a persistent id (torch's storages).

    Raises ModelError for a pickle that is damaged or contains other names or opcodes.
    """
    machine = _Machine(allowed, persistent)
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


def _refuse(operation: str) -> NoReturn:
    raise ModelError(
        f"it asks for {printable(operation)[:80]!r}, which no weights need: it may be made to run code; "
        "nothing of it was run"
    )
