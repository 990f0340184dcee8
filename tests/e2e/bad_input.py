"""What the tests of bad input share on both wires: the names of cases, and keys that nobody may have."""

from __future__ import annotations

from typing import Protocol


class Named(Protocol):
    @property
    def name(self) -> str: ...


def case_ids(case: Named) -> str:
    return case.name.replace(" ", "-")


P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
    int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
    P - 1,
    P,
    P + 1,
]
TOP_BIT = 1 << 255


def as_key(value: int) -> bytes:
    return value.to_bytes(32, "little")


def with_top_bit(key: bytes) -> bytes:
    return key[:31] + bytes([key[31] | 0x80])
