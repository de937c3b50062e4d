"""Matches the patterns of rules. Patterns of plain words compare bytes; the others use a regular expression engine."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp

from gateway.wire.head cimport same_any

from gateway.config.pattern import Pattern

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t n, const void *wanted, size_t m)

cdef enum:
    TRIES = 16              # candidate positions before memmem takes over: no input makes memmem slow

# The bytes that are common in requests, most frequent first.
COMMON = b" eatoinsrlcdhupm0.gf1/2b-;=w3v45,(6)y78:9x_kM"


cdef class PatternMatcher:
    """text: a valid pattern."""

    def __init__(self, str text):
        cdef int i
        self.pattern = Pattern(text)
        self.folded = self.pattern.folded
        self.texts = tuple([word.text.lower() if self.folded else word.text for word in self.pattern.words])
        self.words = <Word *>calloc(len(self.texts) + 1, sizeof(Word))
        if self.words == NULL:
            raise MemoryError
        self.count = len(self.texts)
        for i, word in enumerate(self.pattern.words):
            self.words[i].text = PyBytes_AS_STRING(self.texts[i])
            self.words[i].n = <uint32_t>PyBytes_GET_SIZE(self.texts[i])
            self.words[i].rare = _rarest(self.texts[i])
            self.words[i].start = word.start
            self.words[i].end = word.end

    def __dealloc__(self):
        free(self.words)

    cdef bint find(self, const char *p, uint32_t n, View v) except -1:
        """Whether the pattern occurs in n bytes at p; its named groups are stored in the view (None: nowhere)."""
        cdef int i
        if self.count:
            for i in range(self.count):
                if _found(&self.words[i], p, n, self.folded):
                    return True
            return False
        match = self.pattern.search(PyBytes_FromStringAndSize(p, n))
        if match is None:
            return False
        if v is not None and self.pattern.names:
            if v.groups is None:
                v.groups = {}
            for name, index in self.pattern.names:
                v.groups[name] = match.group(index) or b""
        return True

    def finds(self, bytes text):
        """Whether the pattern occurs in a text; for tests."""
        return self.find(PyBytes_AS_STRING(text), <uint32_t>PyBytes_GET_SIZE(text), None)


def _rarest(text):
    """The position of a text's least frequent byte; 0 for an empty text."""
    return max(range(len(text)), key=lambda at: COMMON.find(text[at:at + 1]) % 256, default=0)


cdef bint _contains(const char *p, uint32_t n, Word *word) noexcept nogil:
    """Whether a word occurs in n bytes at p. Searches for its rarest byte first."""
    cdef const char *at = p + word.rare
    cdef const char *end = p + n - word.n + word.rare + 1       # end of the positions where that byte can be
    cdef int _
    if word.n == 0:
        return True
    for _ in range(TRIES):
        at = <const char *>memchr(at, word.text[word.rare], end - at)
        if at == NULL:
            return False
        if memcmp(at - word.rare, word.text, word.n) == 0:
            return True
        at += 1
    return memmem(at - word.rare, p + n - (at - word.rare), word.text, word.n) != NULL


cdef bint _found(Word *word, const char *p, uint32_t n, bint folded) noexcept nogil:
    cdef uint32_t at, last
    if word.n > n or (word.start and word.end and word.n != n):
        return False
    if not (word.start or word.end or folded):
        return _contains(p, n, word)
    last = n - word.n
    for at in range(0 if not word.end or word.start else last, 1 if word.start else last + 1):
        if same_any(p + at, word.text, word.n) if folded else memcmp(p + at, word.text, word.n) == 0:
            return True
    return False
