"""The picture of `featherface detect -`."""

from __future__ import annotations

import sys

from featherface.errors import DataError
from featherface.imaging import MAX_FILE_BYTES
from featherface.inference.sources import ImageSource

_PIECE_BYTES = 2**20


def read_standard_input(name: str) -> ImageSource:
    """An encoded picture from standard input, whole; it is decoded later, as files are.

    Args:
        name: what results and messages call it.

    Raises:
        DataError: standard input is closed or a terminal, gives nothing, or more than a file may have.
    """
    if sys.stdin is None:
        raise DataError(f"{name}: standard input is closed")
    if sys.stdin.isatty():
        raise DataError(
            f"{name}: standard input is a terminal; give it a picture: featherface detect - < photo.jpg"
        )
    pieces, num_bytes = [], 0
    try:
        # In pieces: whoever asks for the limit at once gets memory for all of it at once.
        while num_bytes <= MAX_FILE_BYTES and (piece := sys.stdin.buffer.read(_PIECE_BYTES)):
            pieces.append(piece)
            num_bytes += len(piece)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error
    if num_bytes > MAX_FILE_BYTES:
        raise DataError(f"{name}: has more than {MAX_FILE_BYTES // 10**6} MB, the limit of a picture")
    if not pieces:
        raise DataError(f"{name}: nothing came on standard input")
    return ImageSource(b"".join(pieces), name)
