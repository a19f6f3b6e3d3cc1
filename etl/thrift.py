"""Thrift's compact protocol, as far as Parquet's metadata needs it: structs, lists, integers, strings.

A value is its type code and its bytes; a struct is written from ``{field id: value}``. Source: the Thrift compact
protocol specification.
"""

from collections.abc import Mapping, Sequence

Value = tuple[int, bytes]
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


def varint(number: int) -> bytes:
    """Unsigned LEB128.

    Example:
        >>> varint(300).hex()
        'ac02'
    """
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def i32(number: int) -> Value:
    return _I32, varint(_zigzag(number))


def i64(number: int) -> Value:
    return _I64, varint(_zigzag(number))


def binary(content: str | bytes) -> Value:
    content = content.encode() if isinstance(content, str) else content
    return _BINARY, varint(len(content)) + content


def list_(items: Sequence[Value]) -> Value:
    """A list of values of one type; an empty one passes for a list of structs."""
    kind, count = items[0][0] if items else _STRUCT, len(items)
    header = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + varint(count)
    return _LIST, header + b"".join(content for _, content in items)


def struct(fields: Mapping[int, Value | None]) -> Value:
    """A struct of the fields that are not None, given in ascending order of their ids (steps below 16)."""
    out, last = bytearray(), 0
    for field, value in fields.items():
        if value is not None:
            out.append((field - last) << 4 | value[0])
            out += value[1]
            last = field
    out.append(0)
    return _STRUCT, bytes(out)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1
