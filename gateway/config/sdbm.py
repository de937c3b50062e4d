"""Reader of SDBM files (NAME.pag), as httxt2dbm -f SDBM writes them for maps of mod_rewrite.

A page of 1,024 bytes begins with numbers of 16 bits, in the order of bytes of the machine: how many follow, and then
where each key and each value begins. The texts stand at the end of the page, the first one last (apr-util,
dbm/sdbm/sdbm_pair.c). The .dir file, which says what page has a key, is not needed to read all of them.
"""

from collections.abc import Iterator
from struct import calcsize, unpack_from
from typing import Final

PAGE: Final = 1024
_NUMBER: Final = "=H"


def pairs(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys with their values. Raises ValueError if this is no such file."""
    if len(content) % PAGE:
        raise ValueError(f"an SDBM file has pages of {PAGE} bytes, and this one has {len(content)} bytes")
    for at in range(0, len(content), PAGE):
        yield from _page(content[at : at + PAGE])


def _page(page: bytes) -> Iterator[tuple[bytes, bytes]]:
    width = calcsize(_NUMBER)
    (count,) = unpack_from(_NUMBER, page)
    first = (count + 1) * width
    if count % 2 or first > PAGE:
        raise ValueError("this is no SDBM file")
    begins = [unpack_from(_NUMBER, page, width * i)[0] for i in range(1, count + 1)]
    end = PAGE
    for i in range(0, count, 2):
        key, value = begins[i : i + 2]
        if not first <= value <= key <= end:
            raise ValueError("this is no SDBM file")
        yield page[key:end], page[value:key]
        end = value
