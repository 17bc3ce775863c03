"""The resources that compiled kernels need, from a cubin: an ELF file whose section ``.nv.info`` has attributes.

``cuobjdump --dump-resource-usage`` prints the same, where it is installed.
"""

import struct
from typing import NamedTuple

REGISTERS, FRAME = 0x2F, 0x11  # attributes of a function: (index of its symbol, value)
WITH_SIZE = 4  # the format of an attribute that is followed by its size; all others take four bytes in total
SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
SYMBOL = struct.Struct("<IBBHQQ")


class Resources(NamedTuple):
    """The resources of one kernel."""

    registers: int  # per thread
    stack: int  # bytes of local memory per thread, for spilled registers and arrays indexed by variables


def resources(cubin: bytes) -> dict[str, Resources]:
    """Return the resources of each kernel, by name."""
    sections = _sections(cubin)
    names = _symbols(cubin, sections)
    found: dict[int, dict[int, int]] = {REGISTERS: {}, FRAME: {}}
    begin, size = sections[".nv.info"]
    at, end = begin, begin + size
    while at < end:
        form, attribute, length = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form == WITH_SIZE:
            if attribute in found:
                symbol, value = struct.unpack_from("<II", cubin, at)
                found[attribute][symbol] = value
            at += length
    kernels = {symbol: name for symbol, name in names.items() if f".text.{name}" in sections}
    return {name: Resources(found[REGISTERS][symbol], found[FRAME][symbol]) for symbol, name in kernels.items()}


def _sections(cubin: bytes) -> dict[str, tuple[int, int]]:
    """Return the start and size of each section."""
    assert cubin[:4] == b"\x7fELF"
    (table,) = struct.unpack_from("<Q", cubin, 40)
    number, names = struct.unpack_from("<HH", cubin, 60)
    headers = [SECTION.unpack_from(cubin, table + i * SECTION.size) for i in range(number)]
    return {_text(cubin, headers[names][4] + header[0]): (header[4], header[5]) for header in headers}


def _symbols(cubin: bytes, sections: dict[str, tuple[int, int]]) -> dict[int, str]:
    """Return the names of symbols by index."""
    begin, size = sections[".symtab"]
    strings, _ = sections[".strtab"]
    entries = SYMBOL.iter_unpack(cubin[begin : begin + size])
    return {index: _text(cubin, strings + entry[0]) for index, entry in enumerate(entries)}


def _text(cubin: bytes, at: int) -> str:
    return cubin[at : cubin.index(b"\0", at)].decode()
