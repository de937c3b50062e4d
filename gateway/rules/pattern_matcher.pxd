from libc.stdint cimport uint32_t, uint8_t
from gateway.rules.view cimport View

# See gateway/config/words.py.
cdef struct Word:
    const char *text
    uint32_t n
    uint32_t rare               # position of its rarest byte
    uint8_t start
    uint8_t end

cdef class PatternMatcher:
    """Searches for a pattern in bytes, without copying them if possible."""
    cdef readonly object pattern        # config.pattern.Pattern
    cdef Word *words
    cdef int count                      # of words; 0: the pattern needs the engine
    cdef bint folded                    # ignores case; the words are in lower case
    cdef tuple texts

    cdef bint find(self, const char *p, uint32_t n, View v) except -1
