"""Arrays and a description in one file: safetensors, written whole, read without trust."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from pmflow.errors import StorageError

__all__ = ["FORMAT", "Archive", "decode", "encode", "read_archive", "write_archive"]

FORMAT = 1
"""Version of the layout of files; a file with a larger number is refused."""

_DTYPES = {
    "BOOL": "?",
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
"""Types of numbers by the names that safetensors has for them."""

_KEY = "pmflow"
_NO_DIGEST = "0" * 64
_MOST_HEADER = 100_000_000
"""Bytes of the longest header that safetensors reads."""

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
    arrays = {name: _checked(name, array) for name, array in archive.arrays.items()}
    # the digest stands before anything of the user's, so that the first 64 zeros are its place
    description = {"format": FORMAT, "sha256": _NO_DIGEST, "content": archive.content}
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"This can't be written to a file: {error}.") from error
    # one text only: of several, safetensors writes them in an order that changes
    encoded = save(arrays, {_KEY: text})
    if _header_length(encoded) > _MOST_HEADER:
        raise StorageError(
            f"This can't be written to a file: its description has {len(text) / 1e6:.0f} MB, but "
            f"may have {_MOST_HEADER / 1e6:.0f} MB at most. Coordinates with very many labels make "
            "it long: leave them out of the model."
        )
    digest = hashlib.sha256(encoded).hexdigest()
    return encoded.replace(_NO_DIGEST.encode(), digest.encode(), 1)


def _checked(name: str, array: Any) -> NDArray[Any]:
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or not _NAME.match(name):
        raise StorageError(f"{name!r} of type {array.dtype} can't be written to a file.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def decode(encoded: bytes, where: str = "The file") -> Archive:
    """What the bytes of a file hold.

    Nothing in them is trusted: safetensors checks that every array lies within the file, types are
    numbers, and no name is looked up.

    Raises
    ------
    StorageError
        As `read_archive`.
    """
    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(encoded)
    except SafetensorError as error:
        raise StorageError(
            f"{where!r} is not a file of pmflow, or it is damaged: {error}. Take a copy of it from "
            "elsewhere, or fit again."
        ) from error
    try:
        header = json.loads(encoded[8 : 8 + _header_length(encoded)])
        text = header.get("__metadata__", {}).get(_KEY)
        if text is None:
            raise StorageError(f"{where!r} is a file of safetensors, but not one of pmflow.")
        known = json.loads(text, parse_constant=_refuse_constant)
        _check_version(known["format"], where)
        if not _is_intact(encoded, known["sha256"]):
            raise _DamagedError("its checksum is another")
        if not isinstance(known["content"], dict):
            raise _DamagedError("its description is not one")
        return Archive(known["content"], {name: _restored(tensor) for name, tensor in tensors})
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


def _header_length(encoded: bytes) -> int:
    return int.from_bytes(encoded[:8], "little")


def _refuse_constant(text: str) -> Any:
    raise _DamagedError(f"{text} stands in its description")


def _check_version(version: Any, where: str) -> None:
    if type(version) is not int:
        raise _DamagedError("it has no version")
    if not 1 <= version <= FORMAT:
        raise StorageError(
            f"{where!r} has version {version} of the format, but this pmflow reads versions 1 to "
            f"{FORMAT}. Load it with the pmflow that wrote it, or with a newer one."
        )


def _is_intact(encoded: bytes, digest: Any) -> bool:
    """Whether the checksum of the file, taken with zeros in its own place, is the one in it."""
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        return False
    zeroed = encoded.replace(digest.encode(), _NO_DIGEST.encode(), 1)
    return hashlib.sha256(zeroed).hexdigest() == digest


def _restored(tensor: dict[str, Any]) -> NDArray[Any]:
    """The array that was written, in its own type and shape."""
    if tensor["dtype"] not in _DTYPES:
        raise _DamagedError(f"an array has the type {tensor['dtype']}")
    dtype = np.dtype(_DTYPES[tensor["dtype"]])
    array = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise _DamagedError("a truth value is neither true nor false")
    return array.astype(dtype.newbyteorder("="), copy=False)
