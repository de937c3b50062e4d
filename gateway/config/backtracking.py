"""Regular expressions with back-references and look-around: PCRE2 with a limit on matching steps.

Rules of Apache are written for this library (pcre2api(3)). Such patterns may need exponential time, so each search
gives up after MAX_STEPS. Loaded when this module is, because a worker cannot open files later.
"""

import ctypes
import re
from typing import Final

from gateway.config.problem import Fault

NAME: Final = "libpcre2-8.so.0"
PACKAGE: Final = "libpcre2-8-0"
MAX_STEPS: Final = 100_000
"""Step limit of one search: a few milliseconds."""
MAX_HEAP: Final = 1024
"""KiB of memory for one search."""

_CASELESS, _DOLLAR_ENDONLY, _DOTALL = 0x8, 0x10, 0x20
_NO_MATCH: Final = -1
_CAPTURE_COUNT: Final = 4  # for pcre2_pattern_info

_size, _pointer = ctypes.c_size_t, ctypes.c_void_p
_SIGNATURES: Final = {
    "compile": (_pointer, (ctypes.c_char_p, _size, ctypes.c_uint32, _pointer, _pointer, _pointer)),
    "code_free": (None, (_pointer,)),
    "match_data_create_from_pattern": (_pointer, (_pointer, _pointer)),
    "match_data_free": (None, (_pointer,)),
    "match_context_create": (_pointer, (_pointer,)),
    "match_context_free": (None, (_pointer,)),
    "set_match_limit": (ctypes.c_int, (_pointer, ctypes.c_uint32)),
    "set_heap_limit": (ctypes.c_int, (_pointer, ctypes.c_uint32)),
    "match": (ctypes.c_int, (_pointer, ctypes.c_char_p, _size, _size, ctypes.c_uint32, _pointer, _pointer)),
    "get_ovector_pointer": (ctypes.POINTER(_size), (_pointer,)),
    "get_error_message": (ctypes.c_int, (ctypes.c_int, ctypes.c_char_p, _size)),
    "pattern_info": (ctypes.c_int, (_pointer, ctypes.c_uint32, _pointer)),
}


def _load() -> "ctypes.CDLL | None":
    try:
        library = ctypes.CDLL(NAME)
    except OSError:
        return None
    for name, (result, arguments) in _SIGNATURES.items():
        function = library[f"pcre2_{name}_8"]
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


_library: Final = _load()


_GROUP: Final = re.compile(
    rb"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|(?P<open>\((?![?*])|\(\?(?:P?<(?![=!])(?P<name>\w+)>|'(?P<quoted>\w+)'))",
    re.DOTALL,
)
"""What a pattern is made of where groups begin, and what only looks like it."""


def _names(pattern: bytes) -> dict[bytes, int]:
    """The numbers of the named groups of a pattern."""
    opened = (found for found in _GROUP.finditer(pattern) if found["open"])
    named = ((found["name"] or found["quoted"], number) for number, found in enumerate(opened, 1))
    return {name: number for name, number in named if name}


class TooManySteps(Exception):
    """A search was aborted."""


class Match:
    """The result of a search."""

    __slots__ = ("_spans", "_text")

    def __init__(self, text: bytes, spans: list[int]) -> None:
        self._text = text
        self._spans = spans

    def group(self, index: int) -> bytes | None:
        """The text of a group, None if it did not participate. Raises IndexError."""
        start, end = self._spans[2 * index], self._spans[2 * index + 1]
        return None if end > len(self._text) else self._text[start:end]

    def start(self) -> int:
        """Position of the match."""
        return self._spans[0]


class Backtracking:
    """A compiled pattern. Raises Fault if it is invalid, or if the library is missing."""

    def __init__(self, pattern: bytes, *, ignore_case: bool = False, dot_all: bool = False) -> None:
        self._code = self._data = self._context = None
        if _library is None:
            raise Fault(f"this pattern looks around or back, which needs PCRE2: install {PACKAGE}")
        self._pcre = _library
        error, offset = ctypes.c_int(), _size()
        options = _CASELESS * ignore_case | _DOTALL * dot_all | _DOLLAR_ENDONLY
        where = (ctypes.byref(error), ctypes.byref(offset))
        self._code = self._pcre.compile(pattern, len(pattern), options, *where, None)
        if self._code is None:
            message = ctypes.create_string_buffer(200)
            self._pcre.get_error_message(error, message, len(message))
            raise Fault(f"not a regular expression: {message.value.decode()}", offset=offset.value)
        self._data = self._pcre.match_data_create_from_pattern(self._code, None)
        self._context = self._pcre.match_context_create(None)
        self._pcre.set_match_limit(self._context, MAX_STEPS)
        self._pcre.set_heap_limit(self._context, MAX_HEAP)
        count = ctypes.c_uint32()
        self._pcre.pattern_info(self._code, _CAPTURE_COUNT, ctypes.byref(count))
        self.groups: int = count.value
        self.groupindex = _names(pattern)
        self._spans = self._pcre.get_ovector_pointer(self._data)

    def __del__(self) -> None:
        for kind, made in (("match_context", self._context), ("match_data", self._data), ("code", self._code)):
            if made is not None:
                getattr(self._pcre, f"{kind}_free")(made)

    def search(self, text: bytes) -> Match | None:
        """The first match in a text, or None. Raises TooManySteps."""
        found = self._pcre.match(self._code, text, len(text), 0, 0, self._data, self._context)
        if found == _NO_MATCH:
            return None
        if found < 0:
            raise TooManySteps
        return Match(text, self._spans[: 2 * self.groups + 2])
