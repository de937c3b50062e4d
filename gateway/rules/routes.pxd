from libc.stdint cimport int32_t, uint8_t, uint32_t
from gateway.rules.view cimport View

# One path of one route; numbered in the order of the site file.
cdef struct Entry:
    int32_t route
    int32_t length              # bytes of the path it covers
    int32_t exact
    int32_t regex

# A node of the prefix trees. Lists of entries are slices of `ids`; children are next to each other, by first byte.
cdef struct Node:
    int32_t label               # in `labels`
    int32_t label_len
    int32_t child
    int32_t children
    int32_t prefixes
    int32_t prefix_count
    int32_t exacts
    int32_t exact_count

cdef struct Slot:               # of the hash of hosts
    int32_t name                # in `labels`
    int32_t length              # 0: empty
    int32_t root

cdef struct Cursor:             # into `ids`
    int32_t at
    int32_t end

cdef class Route:
    cdef readonly int index             # position in the site file
    cdef readonly object action         # set by the owner of the table; None: the search continues with the next route
    cdef readonly tuple steps           # actions.Step
    cdef readonly uint8_t scheme        # 0 any, 1 http, 2 https
    cdef readonly tuple hosts
    cdef readonly tuple paths           # (text, kind), as in the site file
    cdef readonly tuple cheap           # conditions checked before a path's regular expression
    cdef readonly tuple dear            # and after it
    cdef tuple matchers                  # of each path: PatternMatcher or None

    cdef bint holds(self, View v, Entry *e, int alternative) except -1
    cdef str why_not(self, View v, int *length)
    cdef str _path_why_not(self, View v, int alternative, int *length)

cdef class RouteTable:
    cdef readonly list routes
    cdef readonly tuple before          # actions.Step; None: nothing
    cdef Entry *entries
    cdef int32_t *first_of              # route -> its first entry; has one extra element at the end
    cdef Node *nodes
    cdef int32_t *ids
    cdef char *labels
    cdef Slot *slots
    cdef uint32_t mask                  # of `slots`; 0: no route names a host
    cdef bint wild
    cdef int32_t any_host               # root of the tree for every host
    cdef Cursor *cursors
    cdef int capacity

    cdef int32_t _root(self, const char *name, uint32_t n) noexcept nogil
    cdef int _add(self, int count, int32_t at, int32_t n, int32_t first) except -1
    cdef int _descend(self, int32_t root, const char *path, uint32_t n, int count, int32_t first) except -1
    cdef int _collect(self, View v, int32_t first) except -1
    cdef int prepare(self, View v, dict trace) except -1
    cdef object decide(self, View v, dict trace)
    cdef int _passed_over(self, View v, dict trace, int start, int end) except -1
