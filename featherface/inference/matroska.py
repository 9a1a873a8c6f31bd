"""What the first bytes of a Matroska or WebM film say of its length; no decoding."""

_HEADER, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(start: bytes, file_size: int) -> int:
    """How many bytes of a film lie beyond the end of its file.

    A Matroska file is a header and one segment, each an identifier, a length and the content. 0 where nothing
    is missing, where the segment does not say its length (streams that were written as they came), and for
    all other files.

    Args:
        start: of the file; a few hundred bytes hold the header.
        file_size: in bytes.

    Reference:
        EBML, RFC 8794, sections 4 and 6; Matroska, RFC 9559, section 5.1.
    """
    if not start.startswith(_HEADER):
        return 0
    header_size, content = _read_size(start, len(_HEADER))
    segment = content + header_size
    if start[segment : segment + len(_SEGMENT)] != _SEGMENT:
        return 0
    size, content = _read_size(start, segment + len(_SEGMENT))
    return max(0, content + size - file_size)


def _read_size(data: bytes, offset: int) -> tuple[int, int]:
    """A length of 1 to 8 bytes and where it ends; the zeros before the first 1 say how many bytes follow.

    All ones mean that it is not known: 0, as for a length that is cut itself or is none.
    """
    first = data[offset : offset + 1]
    width = 9 - first[0].bit_length() if first else 9
    if width > 8 or offset + width > len(data):
        return 0, offset
    ones = (1 << (7 * width)) - 1
    value = int.from_bytes(data[offset : offset + width]) & ones
    return (0 if value == ones else value), offset + width
