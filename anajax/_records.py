"""A fast reader of small grey images which tensorflow-datasets has prepared.

`tfds.data_source` decodes one example at a time, which takes half a minute for 60,000 images. This takes the
raw records from the same source, reads each `tf.train.Example` by hand, and undoes the PNG filters of all
images together, pixel position by pixel position: a few seconds. Records are parsed as bytes and integers
only; nothing in them is ever executed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_IMAGE, _LABEL = ("image", 1), ("label", 3)  # the name, and the kind of list in its feature: bytes, int64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY8 = bytes([8, 0, 0, 0, 0])  # of a PNG's header: 8 bits, grey, the usual coding, not interlaced


class Unsupported(ValueError):
    """The records seem in order, but do not hold 8-bit grey PNGs of one size with a label each."""


def read(records: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Decode records of one image and one label each.

    Args:
      records: Serialized `tf.train.Example` messages with two features: `image`, an 8-bit grey PNG, and
        `label`, an integer. All images must have the same size.

    Returns:
      The images, uint8 [n, height, width, 1], and the labels, int64 [n], in the order of the records.

    Raises:
      Unsupported: The records hold something else.
      ValueError: A record is damaged, or there is none.
    """
    try:
        examples = [_example(record) for record in records]
        header = examples[0][0][16:29]
        if header[8:] != _GREY8:
            raise Unsupported("the images are not 8-bit grey PNGs")
        height, width = int.from_bytes(header[4:8], "big"), int.from_bytes(header[:4], "big")
        content = b"".join(_inflated(png, header, height * (1 + width)) for png, _ in examples)
        rows = np.frombuffer(content, np.uint8).reshape(len(examples), height, 1 + width)
        return _unfiltered(rows)[..., None], np.array([label for _, label in examples], np.int64)
    except (IndexError, KeyError, TypeError, UnicodeError, OverflowError, zlib.error) as error:
        raise ValueError(f"a record is damaged ({type(error).__name__}: {error})") from error


def _varint(data: bytes, i: int) -> tuple[int, int]:
    """Return the variable-length integer at `i`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[i]
        i += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, i
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value, an int or bytes, of each field of a protocol buffer message."""
    i = 0
    while i < len(message):
        key, i = _varint(message, i)
        value, i = _varint(message, i)
        if key & 7 == 2:  # `value` is the length of what follows: bytes, a string or a message
            value, i = message[i : i + value], i + value
        elif key & 7 != 0:
            raise Unsupported("a record has fields which are neither bytes nor integers")
        yield key >> 3, value
    if i > len(message):
        raise ValueError("a record is damaged (it ends too early)")


def _example(record: bytes) -> tuple[bytes, int]:
    """Return the image, still a PNG, and the label of a `tf.train.Example`."""
    found = {}
    for _, features in _fields(record):
        for _, entry in _fields(features):
            item = dict(_fields(entry))  # one entry of the map: 1 is the name, 2 the feature
            for kind, values in _fields(item[2]):
                found[item[1].decode(), kind] = [value for _, value in _fields(values)]
    if found.keys() != {_IMAGE, _LABEL} or any(len(values) != 1 for values in found.values()):
        raise Unsupported(f"the records do not hold one image and one integer label, but {sorted(found)}")
    [image], [label] = found[_IMAGE], found[_LABEL]
    if isinstance(label, bytes):  # packed integers, here one
        label, end = _varint(packed := label, 0)
        if end != len(packed):
            raise Unsupported("the records have more than one label")
    return image, label


def _inflated(png: bytes, header: bytes, size: int) -> bytes:
    """Return the content of a PNG: for each row a byte which names its filter, then the filtered pixels."""
    if png[:8] != _SIGNATURE or png[16:29] != header:
        raise Unsupported("the images are not PNGs of one size and kind")
    i, content = 8, b""
    while png[i + 4 : i + 8] != b"IEND":  # chunks: length, type, data, checksum
        length = int.from_bytes(png[i : i + 4], "big")
        if i + 12 + length > len(png):
            raise ValueError("a record is damaged (its PNG ends too early)")
        if png[i + 4 : i + 8] == b"IDAT":
            content += png[i + 8 : i + 8 + length]
        i += 12 + length
    content = zlib.decompress(content)  # verifies a checksum as well
    if len(content) != size:
        raise ValueError(f"a record is damaged (its PNG has {len(content)} bytes instead of {size})")
    return content


def _unfiltered(rows: np.ndarray) -> np.ndarray:
    """Undo PNG's filters, which store the difference of a pixel to what its neighbours predict.

    Args:
      rows: uint8 [n, height, 1 + width]. In each row the number of its filter, 0 to 4, then the pixels.

    Returns:
      The pixels, uint8 [n, height, width].
    """
    if rows[..., 0].max() > 4:
        raise ValueError("a record is damaged (its PNG has an unknown filter)")
    count, height, width = rows.shape[0], rows.shape[1], rows.shape[2] - 1
    rows = np.ascontiguousarray(rows.transpose(1, 2, 0)).astype(np.int16)  # images last: long, fast loops
    out = np.zeros((height + 1, width + 1, count), np.int16)  # beyond the upper and the left edge all is zero
    for r in range(height):
        for c in range(width):
            corner, up, left = out[r, c], out[r, c + 1], out[r + 1, c]
            # Paeth's filter predicts the neighbour which is nearest to left + up - corner.
            to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            near = np.where(to_up <= to_corner, up, corner)
            near = np.where((to_left <= to_up) & (to_left <= to_corner), left, near)
            predicted = np.choose(rows[r, 0], (0, left, up, (left + up) >> 1, near))
            out[r + 1, c + 1] = (rows[r, c + 1] + predicted) & 0xFF
    return np.ascontiguousarray(out[1:, 1:].transpose(2, 0, 1)).astype(np.uint8)
