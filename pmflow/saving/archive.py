"""Arrays and a description in one file: netCDF, written whole or not at all, read without trust."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import StorageError

__all__ = ["FORMAT", "Archive", "decode", "encode", "read_archive", "write_archive"]

FORMAT = 1
"""Version of the layout of files; a file with a larger number is refused."""

_NATIVE = {"f8": 6, "f4": 5, "i4": 4, "i2": 3, "i1": 1}
"""Types of numbers that netCDF-3 has, with its codes for them."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}
_TYPES = {code: f">{name}" for name, code in _NATIVE.items()} | {2: "S1"}
_KINDS = "biuf"
_MOST_BYTES = 2**31
_MOST_AXES = 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z", re.ASCII)

type Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Archive:
    """What a file holds.

    Attributes
    ----------
    content : dict
        What JSON can say: texts, whole numbers, truth values, lists and dicts of these.
    arrays : dict of str to ndarray
        Numbers by name; a name is an ASCII letter, then letters, digits or ``_``.
    """

    content: dict[str, Any]
    arrays: Arrays = field(default_factory=dict)


def write_archive(path: str | os.PathLike[str], archive: Archive) -> None:
    """Write a file: first beside its place, then moved there at once.

    A full disk, a kill or a power cut leaves the file that was there before as it was.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    encoded = encode(archive)
    try:
        # what a link points to is replaced, not the link
        target = Path(os.path.realpath(path))
        _replace(target, encoded)
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"{os.fspath(path)!r} could not be written: {error}. A file that was there before is "
            "as it was. Make room, or save to another folder."
        ) from error


def _replace(target: Path, encoded: bytes) -> None:
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            part.chmod(target.stat().st_mode & 0o777)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # so that the move itself is on the disk too
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read a file of `write_archive`.

    Raises
    ------
    StorageError
        If it is missing, damaged, of another kind, or of a later version.
    """
    try:
        encoded = Path(path).read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise StorageError(f"{os.fspath(path)!r} could not be read: {error}.") from error
    return decode(encoded, os.fspath(path))


def encode(archive: Archive) -> bytes:
    """The bytes of a file."""
    from scipy.io import netcdf_file

    arrays = {name: _checked(name, array) for name, array in archive.arrays.items()}
    shapes = {name: {"dtype": a.dtype.str[1:], "shape": a.shape} for name, a in arrays.items()}
    try:
        text = json.dumps({"content": archive.content, "arrays": shapes}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"This can't be written to a file: {error}.") from error
    buffer = io.BytesIO()
    file = netcdf_file(buffer, "w", version=2)
    file.title = "A fit of pmflow"
    file.pmflow_format = np.int32(FORMAT)
    file.pmflow_content = text
    file.pmflow_sha256 = _digest(text, arrays)
    for name, array in arrays.items():
        stored = _as_native(array)
        if not stored.size:
            continue  # netCDF-3 has no axis of length 0: the description says it
        axes = [f"{name}_{axis}" for axis in range(stored.ndim)]
        for axis, length in zip(axes, stored.shape, strict=True):
            file.createDimension(axis, length)
        variable = file.createVariable(name, stored.dtype.str[1:], axes)
        variable[...] = stored
        if stored.dtype != array.dtype:
            variable.pmflow_dtype = "<" + array.dtype.str[1:]
    file.flush()
    encoded = buffer.getvalue()
    file.close()
    return encoded


def _checked(name: str, array: Any) -> NDArray[Any]:
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8 or not _NAME.match(name):
        raise StorageError(f"{name!r} of type {array.dtype} can't be written to a file.")
    if array.nbytes >= _MOST_BYTES:
        raise StorageError(
            f"{name!r} has {array.nbytes / 2**30:.1f} GiB, but a file holds arrays of 2 GiB at "
            "most. Where a Tracker recorded it, record fewer steps: Tracker(inference, every=...)."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _as_native(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a type that netCDF-3 has: as it is, or as bytes along a last axis."""
    if array.dtype.str[1:] in _NATIVE:
        return array
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return np.frombuffer(little.tobytes(), "i1").reshape(*array.shape, array.dtype.itemsize)


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of everything in the file, so that a damaged one is known as such."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(name.encode())
        array = arrays[name]
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def decode(encoded: bytes, where: str = "The file") -> Archive:
    """What the bytes of a file hold.

    Nothing in them is trusted: no length is believed before the bytes are there, types are numbers,
    and no name is looked up.

    Raises
    ------
    StorageError
        As `read_archive`.
    """
    if encoded[:3] != b"CDF" or encoded[3:4] not in (b"\x01", b"\x02"):
        raise StorageError(
            f"{where!r} is not a file of pmflow: it does not begin as a netCDF-3 file does."
        )
    try:
        attributes, variables = _Reader(encoded).read()
        version = attributes.get("pmflow_format")
        if not isinstance(version, int):
            raise StorageError(f"{where!r} is a netCDF file, but not one of pmflow.")
        if not 1 <= version <= FORMAT:
            raise StorageError(
                f"{where!r} has version {version} of the format, but this pmflow reads versions 1 "
                f"to {FORMAT}. Load it with the pmflow that wrote it, or with a newer one."
            )
        text = attributes["pmflow_content"]
        known = json.loads(text, parse_constant=_refuse_constant)
        arrays = {n: _restored(s, variables.get(n)) for n, s in known["arrays"].items()}
        if _digest(text, arrays) != attributes["pmflow_sha256"]:
            raise _DamagedError("its checksum is another")
        if not isinstance(known["content"], dict):
            raise _DamagedError("its description is not one")
        return Archive(known["content"], arrays)
    except StorageError:
        raise
    # AttributeError and the like: JSON of other types than expected
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(where, error) from error
    except (MemoryError, RecursionError) as error:
        raise _damaged(where, error) from error


class _DamagedError(ValueError):
    """Bytes that are not as they should be."""


def _damaged(where: str, error: Exception) -> StorageError:
    return StorageError(
        f"{where!r} is damaged: {error or type(error).__name__}. Take a copy of it from elsewhere, "
        "or fit again."
    )


def _refuse_constant(text: str) -> Any:
    raise _DamagedError(f"{text} stands in its description")


def _restored(spec: Mapping[str, Any], stored: NDArray[Any] | None) -> NDArray[Any]:
    """The array that was written, in its own type and shape."""
    shape, dtype = tuple(spec["shape"]), np.dtype("<" + spec["dtype"])
    if any(type(n) is not int or n < 0 for n in shape) or dtype.kind not in _KINDS:
        raise _DamagedError("an array has no type or shape")
    if 0 in shape:
        return np.empty(shape, dtype.newbyteorder("="))
    if stored is None:
        raise _DamagedError("an array is missing")
    if dtype.str[1:] in _NATIVE:
        if (stored.dtype.str[1:], stored.shape) != (dtype.str[1:], shape):
            raise _DamagedError("an array has another type or shape than it should")
        return stored.astype(dtype.newbyteorder("="))
    if stored.dtype.str[1:] != "i1" or stored.shape != (*shape, dtype.itemsize):
        raise _DamagedError("an array has another type or shape than it should")
    array = np.frombuffer(stored.tobytes(), dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


class _Reader:
    """The header and the arrays of a netCDF-3 file (classic, or with 64-bit offsets).

    https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html. Without record
    variables, which `encode` does not write.
    """

    def __init__(self, encoded: bytes) -> None:
        self._bytes = encoded
        self._place = 4
        self._offset_bytes = 8 if encoded[3] == 2 else 4

    def read(self) -> tuple[dict[str, Any], Arrays]:
        """Global attributes, and variables by name."""
        if self._int():
            raise _DamagedError("it has records")
        lengths = [(self._text(), self._int())[1] for _ in self._list(10)]
        attributes = self._attributes()
        variables = {}
        for _ in self._list(11):
            name, array = self._variable(lengths)
            variables[name] = array
        return attributes, variables

    def _take(self, count: int) -> bytes:
        taken = self._bytes[self._place : self._place + count]
        if len(taken) < count:
            raise _DamagedError("it ends too early")
        self._place += count
        return taken

    def _int(self, size: int = 4) -> int:
        return int.from_bytes(self._take(size), "big")

    def _padded(self, count: int) -> bytes:
        taken = self._take(count)
        self._take(-count % 4)
        return taken

    def _text(self) -> str:
        return self._padded(self._int()).decode()

    def _list(self, tag: int) -> range:
        found, count = self._int(), self._int()
        if (found, count) != (0, 0) and found != tag:
            raise _DamagedError("its header is not that of a netCDF file")
        return range(count)  # each member takes bytes: a wrong count runs into the end

    def _attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for _ in self._list(12):
            name, code = self._text(), self._int()
            values = self._padded(self._int() * _SIZES[code])
            if code == 2:
                attributes[name] = values.decode()
            else:
                numbers = np.frombuffer(values, _TYPES[code]).tolist()
                attributes[name] = numbers[0] if len(numbers) == 1 else numbers
        return attributes

    def _variable(self, lengths: list[int]) -> tuple[str, NDArray[Any]]:
        name, axes = self._text(), self._int()
        if axes > _MOST_AXES:
            raise _DamagedError("an array has too many axes")
        shape = tuple(lengths[self._int()] for _ in range(axes))
        self._attributes()
        code, _, begin = self._int(), self._int(), self._int(self._offset_bytes)
        size = _SIZES[code]
        for length in shape:
            size *= length
        if not 0 < size <= len(self._bytes) - begin:
            raise _DamagedError("it ends too early")
        array = np.frombuffer(self._bytes[begin : begin + size], _TYPES[code])
        return name, array.reshape(shape)
