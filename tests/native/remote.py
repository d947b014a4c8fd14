"""The kernels in another process: of another processor, which qemu computes, or of another compiler.

A `Remote` takes the place of the library that ctypes loads. A call gives it addresses. It finds the arrays and tensors
that lie there, copies them into one piece of memory, in which it replaces each address by an offset, and sends this to
the program of remote.cpp. What the call has written comes back into the same arrays. So each test of the kernels can
hold those of a processor that is not here.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.native.kept import kept
from tfguide.native import abi, compiler
from tfguide.native.library import FOLDER

SOURCE = Path(__file__).with_name("remote.cpp")
GUARD = 0xA5  # fills the bytes between arrays: one that has changed was written outside of an array
FRAMES = 6  # how far up the callers of a function the arrays are looked for
POINTERS = (ctypes.c_void_p, ctypes._Pointer)


def compile_program(words: list[str]) -> Path:
    """The program of remote.cpp. words: the compiler and the machine's options."""

    def build(folder):
        program = folder / "kernels"
        command = [*words, *compiler.FLAGS, "-static", f"-I{FOLDER}", str(SOURCE), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return program

    return kept(build, words, SOURCE)


class Remote:
    """The functions of the kernels, computed by a program. command: that starts it."""

    def __init__(self, command: list[str]):
        self.command = command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __getattr__(self, name):
        if name not in abi.FUNCTIONS:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, arguments)

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(60) == 0

    def tfguide_abi(self) -> bytes:
        """The text of the function of this name."""
        return subprocess.run([*self.command, "abi"], capture_output=True, check=True).stdout

    def tfguide_isa(self) -> bytes:
        """The text of the function of this name."""
        return subprocess.run([*self.command, "isa"], capture_output=True, check=True).stdout

    def _call(self, name, arguments):
        kinds, result = abi.FUNCTIONS[name]
        image = Image(find_arrays(sys._getframe(2)))
        words = [image.argument(kind, value) for kind, value in zip(kinds, arguments, strict=True)]
        words += [(0, 0)] * (8 - len(words))
        header = struct.pack("32s8q8q", name.encode(), *(value for value, _ in words), *(flag for _, flag in words))
        self._process.stdin.write(header + image.packed())
        self._process.stdin.flush()
        (value,) = struct.unpack("f", self._read(4))
        image.take_back(self._read(len(image.memory)))
        return value if result is ctypes.c_float else None

    def _read(self, n):
        content = self._process.stdout.read(n)
        if len(content) != n:
            raise RuntimeError(f"{' '.join(self.command)} ended with status {self._process.wait(60)}")
        return content


@dataclass
class Piece:
    """Memory of this process: an array's, or that of a ctypes object, whose fields may be addresses."""

    address: int
    n_bytes: int
    structure: object = None
    offset: int | None = None  # in the image, once it is there


class Image:
    """One piece of memory with a copy of all that a call reads and writes."""

    def __init__(self, pieces):
        self.memory, self._addresses, self._pieces, self._guards = bytearray(), [], pieces, []

    def argument(self, kind, value):
        """The number that the program gets for an argument, and whether the start of its memory is to be added."""
        if kind in POINTERS[:1] or issubclass(kind, ctypes._Pointer):
            if isinstance(value, (ctypes.Structure, ctypes.Array)):
                return self._place(value_piece(self._pieces, value)), 1
            return (0, 0) if not value else (self._locate(value), 1)
        return int(value), 0

    def packed(self) -> bytes:
        self._guard()
        return (
            struct.pack(f"qq{len(self._addresses)}q", len(self._addresses), len(self.memory), *self._addresses)
            + self.memory
        )

    def take_back(self, content):
        """Write what the call has written into the arrays of this process."""
        for start, end in self._guards:
            assert content[start:end] == bytes([GUARD]) * (end - start), "the kernels wrote outside of an array"
        for piece in self._pieces:
            if piece.offset is not None and piece.structure is None:
                new = content[piece.offset : piece.offset + piece.n_bytes]
                if new != self.memory[piece.offset : piece.offset + piece.n_bytes]:
                    ctypes.memmove(piece.address, new, piece.n_bytes)

    def _locate(self, address):
        """The offset of an address in the image; its array is copied there at first."""
        for piece in self._pieces:
            if piece.address <= address < piece.address + piece.n_bytes:
                return self._place(piece) + address - piece.address
        raise AssertionError(f"no array of the callers lies at {address:#x}")

    def _place(self, piece):
        if piece.offset is None:
            self._guard()
            piece.offset = len(self.memory)
            self.memory += ctypes.string_at(piece.address, piece.n_bytes)
            if piece.structure is not None:
                self._replace(piece.structure, piece.offset)
        return piece.offset

    def _guard(self):
        """At least 64 bytes between arrays, which start at a multiple of 64."""
        start = len(self.memory)
        self.memory += bytes([GUARD]) * (64 + -start % 64)
        self._guards.append((start, len(self.memory)))

    def _replace(self, item, offset):
        """Replace the addresses in the copy of a structure, or of an array of structures or addresses, by offsets."""
        if isinstance(item, ctypes.Array):
            size = ctypes.sizeof(item._type_)
            parts = [(item._type_, offset + i * size, item[i]) for i in range(len(item))]
        else:
            parts = [
                (kind, offset + getattr(type(item), name).offset, getattr(item, name)) for name, kind in item._fields_
            ]
        for kind, at, value in parts:
            if isinstance(value, (ctypes.Structure, ctypes.Array)):
                self._replace(value, at)
            elif issubclass(kind, POINTERS) and value:
                address = value if isinstance(value, int) else ctypes.addressof(value.contents)
                target = self._locate(address)
                self.memory[at : at + 8] = target.to_bytes(8, "little")
                self._addresses.append(at)


def value_piece(pieces, value):
    """The piece of a structure that is an argument, and those of all that it points to."""
    pieces += structures_of(value)
    return next(piece for piece in pieces if piece.structure is value)


def structures_of(value):
    """A ctypes object and the others that it keeps alive because one of its fields points to them."""
    yield Piece(ctypes.addressof(value), ctypes.sizeof(value), value)
    kept = [value._objects]
    while kept:
        item = kept.pop()
        if isinstance(item, (ctypes.Structure, ctypes.Array)) and item is not value:
            yield from structures_of(item)
        elif isinstance(item, dict):
            kept += item.values()
        elif isinstance(item, tuple):
            kept += item


def find_arrays(frame):
    """The memory of all arrays and tensors that the functions hold which have made a call.

    A function holds what its variables name, what their lists hold, and the attributes of the package's objects.
    """
    pieces, seen, todo = [], set(), []
    for _ in range(FRAMES):
        if frame is not None:
            todo += frame.f_locals.values()
            frame = frame.f_back
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            if item.flags.c_contiguous:
                pieces.append(Piece(item.ctypes.data, item.nbytes))
        elif type(item).__module__.startswith("torch") and hasattr(item, "data_ptr"):
            pieces.append(Piece(item.data_ptr(), item.nbytes))
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, (list, tuple)):
            todo += item
        elif type(item).__module__.startswith("tfguide") and hasattr(item, "__dict__"):
            todo += vars(item).values()
    # Of two that overlap, the larger one: a part of an array is placed with the array.
    return sorted(pieces, key=lambda piece: -piece.n_bytes)
