"""A map of a site file: one sealed block of shared memory, built once and mapped by every worker.

The block has the file's text as it is, an entry for each key that points into it, and a hash table of the entries; a
key that is compared in another form than written (a host in lower case, a network in binary) is kept behind the text.
A lookup of a prefix, a wildcard or a network probes the table once for each length that any key has, longest first or
last, so it does not depend on the number of keys.
"""

import csv
import os
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcmp, memcpy

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *address)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6

cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ, MAP_SHARED
    void *mmap(void *address, size_t length, int protection, int flags, int descriptor, long offset)
    int munmap(void *address, size_t length)

MAX_BYTES = 128 << 20
"""Of a file."""
MAX_ENTRIES = 4_000_000
MAX_PATTERNS = 5_000
"""Keys that are regular expressions: each is tried until one matches."""
MAX_KEY = LONGEST
"""Bytes of a key,"""
MAX_VALUE = LONGEST
"""and of a value."""
MOST = 20
"""Problems that are reported of a file."""
KINDS = ("exact", "prefix", "host", "network", "regex")


class MapFaults(ValueError):
    """What is wrong with a file: (line, reason) of each problem, at most MOST."""

    def __init__(self, problems):
        super().__init__("; ".join(f"line {line}: {reason}" for line, reason in problems))
        self.problems = tuple(problems)


cdef class _Builder:
    """Reads a file into entries."""
    cdef bytes text
    cdef const char *p
    cdef uint32_t n
    cdef Entry *entries
    cdef uint32_t count
    cdef uint32_t room
    cdef char *extra            # text that is not in the file in this form; its offsets follow those of the file
    cdef uint32_t extra_n
    cdef uint32_t extra_room
    cdef uint32_t *slots
    cdef uint32_t mask
    cdef Head head
    cdef list problems

    def __cinit__(self, bytes text, int kind):
        self.text = text
        self.p = PyBytes_AS_STRING(text)
        self.n = <uint32_t>PyBytes_GET_SIZE(text)
        self.head.kind = kind
        self.problems = []

    def __dealloc__(self):
        free(self.entries)
        free(self.extra)
        free(self.slots)

    cdef const char *_at(self, uint32_t at) noexcept:
        return self.p + at if at < self.n else self.extra + (at - self.n)

    cdef uint32_t _keep(self, const char *p, uint32_t n) except? 0xFFFFFFFF:
        """Keep text that the file does not have; its offset."""
        cdef void *grown
        cdef uint32_t at = self.extra_n
        if at + n > self.extra_room:
            self.extra_room = 2 * (at + n) + 4096
            grown = realloc(self.extra, self.extra_room)
            if grown == NULL:
                raise MemoryError
            self.extra = <char *>grown
        memcpy(self.extra + at, p, n)
        self.extra_n += n
        return self.n + at

    cdef int _complain(self, uint32_t line, str reason) except -1:
        if len(self.problems) < MOST:
            self.problems.append((line, reason))
        return 0

    cdef int _add(self, uint32_t line, Entry entry) except -1:
        cdef void *grown
        cdef const char *p = self._at(entry.value)
        cdef str why = None
        cdef uint32_t i
        if entry.key_n > LONGEST or entry.value_n > LONGEST:
            why = f"a {'key' if entry.key_n > LONGEST else 'value'} has at most {LONGEST} bytes"
        for i in range(entry.value_n):
            if <uint8_t>p[i] < 32 or p[i] == 127:
                why = "a value cannot contain a control character"
        if why is None:
            why = self._canonical(&entry)
        if why is not None:
            return self._complain(line, why)
        if self.count == self.room:
            self.room = 2 * self.room + 1024
            grown = realloc(self.entries, self.room * sizeof(Entry))
            if grown == NULL:
                raise MemoryError
            self.entries = <Entry *>grown
        entry.line = line
        self.entries[self.count] = entry
        self.count += 1
        return 0

    cdef str _canonical(self, Entry *entry):
        """Bring a key into the form in which it is looked up; the reason why it is not valid, or None."""
        cdef const char *p = self._at(entry.key)
        cdef char name[LONGEST]
        cdef uint32_t n = entry.key_n, i
        cdef bint changed = False
        if n == 0:
            return "a key is empty"
        if self.head.kind == K_PREFIX:
            self.head.lengths[n] = 1
        elif self.head.kind == K_HOST:
            for i in range(n):
                name[i] = p[i] + 32 if c'A' <= p[i] <= c'Z' else p[i]
                changed = changed or name[i] != p[i]
                if not (c'a' <= name[i] <= c'z' or c'0' <= name[i] <= c'9' or name[i] in b"-_.:[]"
                        or (name[i] == c'*' and i == 0 and n > 2 and p[1] == c'.')):
                    return f"{p[:n].decode('utf-8', 'replace')} is neither a host name nor *.NAME"
            if changed:
                entry.key = self._keep(name, n)
            if name[0] == c'*':         # the table has it as it is compared: .example.com
                entry.key += 1
                entry.key_n -= 1
        elif self.head.kind == K_NETWORK:
            return self._network(entry, p[:n])
        return None

    cdef str _network(self, Entry *entry, bytes written):
        cdef char packed[18]
        cdef char masked[18]
        address, slash, bits = written.partition(b"/")
        cdef int family = 6 if b":" in address else 4
        cdef int length, widest = 128 if family == 6 else 32
        shown = written.decode("utf-8", "replace")
        if (inet_pton(AF_INET6 if family == 6 else AF_INET, PyBytes_AS_STRING(address), packed + 2) != 1
                or (slash and not (bits.isdigit() and len(bits) < 4 and int(bits) <= widest))):
            return f"{shown} is not a network such as 10.0.0.0/8 or 2001:db8::/32"
        length = int(bits) if slash else widest
        packed[0] = family
        packed[1] = <char>length
        memcpy(masked, packed, 2 + widest // 8)
        _mask(masked, length, widest)
        if memcmp(masked, packed, 2 + widest // 8) != 0:
            return f"{shown} has address bits beyond its length: write the network's own address"
        self.head.lengths[length + (FAMILY_6 if family == 6 else 0)] = 1
        entry.key_n = 2 + widest // 8
        entry.key = self._keep(packed, entry.key_n)
        return None

    def read(self, csv_columns):
        """Read all lines. csv_columns: None for text, or the numbers of the columns of key and value, and the first
        line of data."""
        cdef uint32_t at = 3 if self.text.startswith(b"\xef\xbb\xbf") else 0
        cdef uint32_t end, stop, line = 0, first = 0
        cdef int key_at = 0, value_at = 1
        cdef const char *edge
        cdef bint is_csv = csv_columns is not None
        if is_csv:
            key_at, value_at, first = csv_columns
        while at < self.n:
            edge = <const char *>memchr(self.p + at, c'\n', self.n - at)
            end = self.n if edge == NULL else <uint32_t>(edge - self.p)
            line += 1
            stop = end
            if stop > at and self.p[stop - 1] == c'\r':
                stop -= 1
            if is_csv:
                if line >= first and stop > at:
                    self._csv_line(line, at, stop, key_at, value_at)
            else:
                self._text_line(line, at, stop)
            at = end + 1
            if self.count > MAX_ENTRIES or len(self.problems) >= MOST:
                break
        if self.count > MAX_ENTRIES:
            self._complain(line, f"a map has at most {MAX_ENTRIES:,} entries")
        if self.head.kind == K_REGEX and self.count > MAX_PATTERNS:
            self._complain(line, f"a map has at most {MAX_PATTERNS:,} regular expressions")

    cdef int _text_line(self, uint32_t line, uint32_t at, uint32_t stop) except -1:
        """A key, blanks, and the value; # begins a line of comment."""
        cdef Entry entry
        while at < stop and _blank(self.p[at]):
            at += 1
        while stop > at and _blank(self.p[stop - 1]):
            stop -= 1
        if at == stop or self.p[at] == c'#':
            return 0
        entry.key = at
        while at < stop and not _blank(self.p[at]):
            at += 1
        entry.key_n = at - entry.key
        while at < stop and _blank(self.p[at]):
            at += 1
        if at == stop:
            return self._complain(line, "there is a key without a value: write KEY VALUE")
        entry.value = at
        entry.value_n = stop - at
        return self._add(line, entry)

    cdef int _csv_line(self, uint32_t line, uint32_t at, uint32_t stop, int key_at, int value_at) except -1:
        """Fields between commas; one in double quotes may have commas, and quotes as two (RFC 4180)."""
        cdef Entry entry
        cdef uint32_t start, n
        cdef int number = 0, missing = 2
        cdef bint doubled
        entry.key = entry.key_n = entry.value = entry.value_n = 0
        while True:
            if at < stop and self.p[at] == c'"':
                at += 1
                start = at
                doubled = False
                while at < stop and (self.p[at] != c'"' or (at + 1 < stop and self.p[at + 1] == c'"')):
                    if self.p[at] == c'"':
                        doubled = True
                        at += 1
                    at += 1
                if at >= stop or (at + 1 < stop and self.p[at + 1] != c','):
                    return self._complain(line, "a text in quotes has to end on its line, before a comma")
                n = at - start
                at += 1
                if doubled:
                    plain = self.p[start:start + n].replace(b'""', b'"')
                    n = <uint32_t>len(plain)
                    start = self._keep(PyBytes_AS_STRING(plain), n)
            else:
                start = at
                while at < stop and self.p[at] != c',':
                    at += 1
                n = at - start
            if number == key_at:
                entry.key, entry.key_n = start, n
                missing -= 1
            if number == value_at:
                entry.value, entry.value_n = start, n
                missing -= 1
            number += 1
            if missing == 0:
                return self._add(line, entry)
            if at >= stop:
                return self._complain(line, f"there is no column {number + 1}")
            at += 1                     # the comma

    def index(self):
        """Fill the hash table."""
        cdef uint32_t size = 4, at, i
        cdef Entry *one
        cdef Entry *other
        while size < 2 * self.count:
            size *= 2
        self.mask = size - 1
        self.slots = <uint32_t *>calloc(size, sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError
        for i in range(self.count):
            one = &self.entries[i]
            at = _folded(_hash(FNV, self._at(one.key), one.key_n)) & self.mask
            while self.slots[at]:
                other = &self.entries[self.slots[at] - 1]
                if other.key_n == one.key_n and memcmp(self._at(other.key), self._at(one.key), one.key_n) == 0:
                    self._complain(one.line, f"its key is on line {other.line}, too")
                    break
                at = (at + 1) & self.mask
            else:
                self.slots[at] = i + 1
            if len(self.problems) >= MOST:
                return

    def finished(self):
        """The table. Raises OSError, MapFaults."""
        cdef uint64_t slots = <uint64_t>(self.mask + 1) * sizeof(uint32_t)
        cdef uint64_t entries = <uint64_t>self.count * sizeof(Entry)
        if self.problems:
            raise MapFaults(self.problems)
        self.head.count = self.count
        self.head.mask = self.mask
        self.head.text_n = self.n
        self.head.entries = sizeof(Head)
        self.head.slots = self.head.entries + entries
        self.head.pool = self.head.slots + slots
        descriptor = os.memfd_create("gateway-map", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            _write(descriptor, <const char *>&self.head, sizeof(Head))
            _write(descriptor, <const char *>self.entries, entries)
            _write(descriptor, <const char *>self.slots, slots)
            _write(descriptor, self.p, self.n)
            _write(descriptor, self.extra, self.extra_n)
            fcntl(descriptor, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
            return MapTable(descriptor)
        except BaseException:
            os.close(descriptor)
            raise


def build(bytes text, str keys, *, bint is_csv=False, key=None, value=None):
    """The table of a file's text. keys: one of KINDS. key, value: names of columns in the first line of a CSV file;
    without both, there is no such line, and they are the first two columns. Raises MapFaults, OSError."""
    cdef _Builder builder
    if len(text) > MAX_BYTES:
        raise MapFaults([(1, f"the file has more than {MAX_BYTES >> 20}MiB")])
    builder = _Builder(text, KINDS.index(keys))
    builder.read(_columns(text, key, value) if is_csv else None)
    if not builder.problems:
        builder.index()
    return builder.finished()


def _columns(bytes text, key, value):
    """Numbers of the columns of key and value, and the first line of data."""
    if key is None and value is None:
        return 0, 1, 1
    first = text.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
    names = [name.strip() for name in next(csv.reader([first]), [])]
    for name in (key, value):
        if name is not None and name not in names:
            raise MapFaults([(1, f"there is no column {name}: there are {', '.join(names) or 'none'}")])
    key_at = 0 if key is None else names.index(key)
    value_at = names.index(value) if value is not None else 1 if key_at == 0 else 0
    if key_at == value_at:
        raise MapFaults([(1, f"{value} is the column of the keys")])
    return key_at, value_at, 2


cdef class MapTable:
    """A table in the memory file `descriptor`, which it owns. A buffer: the text of the file."""

    def __cinit__(self, int descriptor):
        self.descriptor = -1
        self.size = os.fstat(descriptor).st_size
        self.base = <const char *>mmap(NULL, self.size, PROT_READ, MAP_SHARED, descriptor, 0)
        if self.base == <const char *>-1:
            self.base = NULL
            raise OSError("cannot map a memory file")
        self.descriptor = descriptor
        self.head = <const Head *>self.base
        self.entries = <const Entry *>(self.base + self.head.entries)
        self.slots = <const uint32_t *>(self.base + self.head.slots)
        self.pool = self.base + self.head.pool

    def __dealloc__(self):
        if self.base != NULL:
            munmap(<void *>self.base, self.size)
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.pool, self.head.text_n, 1, flags)

    def __len__(self):
        return self.head.count

    def __reduce__(self):
        raise TypeError("a map goes to other processes by its descriptor")

    def fileno(self):
        """The descriptor; -1 once it is closed."""
        return self.descriptor

    def close_descriptor(self):
        """Keep only the mapping: this process hands the table to no other."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    @property
    def memory(self):
        """Bytes of memory, which all processes share."""
        return self.size

    def items(self):
        """Key, as it is compared, and value of each entry, in the order of the file."""
        cdef uint32_t i
        for i in range(self.head.count):
            yield (self._text(self.entries[i].key, self.entries[i].key_n),
                   self._text(self.entries[i].value, self.entries[i].value_n))

    def line_of(self, int number):
        """The line of an entry, counted from 0 in the order of the file."""
        return self.entries[number].line

    def get(self, bytes key):
        """The value of what is looked up, or None. Not for tables of regular expressions."""
        cdef const Entry *found = self.find(PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key))
        return None if found == NULL else self._text(found.value, found.value_n)

    cdef bytes _text(self, uint32_t at, uint32_t n):
        return PyBytes_FromStringAndSize(self.pool + at, n)

    cdef const Entry *find(self, const char *p, uint32_t n) noexcept nogil:
        """The entry for n bytes at p, or NULL."""
        if self.head.kind == K_EXACT:
            return self._probe(_hash(FNV, p, n), p, n)
        if self.head.kind == K_PREFIX:
            return self._longest(p, n)
        if self.head.kind == K_HOST:
            return self._host(p, n)
        if self.head.kind == K_NETWORK:
            return self._narrowest(p, n)
        return NULL

    cdef const Entry *_probe(self, uint64_t hash, const char *p, uint32_t n) noexcept nogil:
        cdef uint32_t at = _folded(hash) & self.head.mask
        cdef const Entry *entry
        while self.slots[at]:
            entry = &self.entries[self.slots[at] - 1]
            if entry.key_n == n and memcmp(self.pool + entry.key, p, n) == 0:
                return entry
            at = (at + 1) & self.head.mask
        return NULL

    cdef const Entry *_longest(self, const char *p, uint32_t n) noexcept nogil:
        """The longest key that the text begins with."""
        cdef const Entry *best = NULL
        cdef const Entry *entry
        cdef uint64_t hash = FNV
        cdef uint32_t i
        for i in range(min(n, <uint32_t>LONGEST)):
            hash = _hash(hash, p + i, 1)
            if self.head.lengths[i + 1]:
                entry = self._probe(hash, p, i + 1)
                if entry != NULL:
                    best = entry
        return best

    cdef const Entry *_host(self, const char *p, uint32_t n) noexcept nogil:
        """The name itself, or else the longest *.NAME that it is below."""
        cdef char name[256]
        cdef const Entry *entry
        cdef uint32_t i
        if n and p[n - 1] == c'.':
            n -= 1                      # fully qualified: the same host
        if n == 0 or n > sizeof(name):
            return NULL
        for i in range(n):
            name[i] = p[i] + 32 if c'A' <= p[i] <= c'Z' else p[i]
        if name[0] != c'.':
            entry = self._probe(_hash(FNV, name, n), name, n)
            if entry != NULL:
                return entry
        for i in range(1, n):
            if name[i] == c'.':
                entry = self._probe(_hash(FNV, name + i, n - i), name + i, n - i)
                if entry != NULL:
                    return entry
        return NULL

    cdef const Entry *_narrowest(self, const char *p, uint32_t n) noexcept nogil:
        """The smallest network that an address is in; an IPv4-mapped IPv6 address counts as IPv4."""
        cdef char text[64]
        cdef char packed[18]
        cdef const Entry *entry
        cdef int length, widest, offset
        if n >= sizeof(text):
            return NULL
        memcpy(text, p, n)
        text[n] = 0
        packed[0] = 4
        if inet_pton(AF_INET, text, packed + 2) != 1:
            packed[0] = 6
            if inet_pton(AF_INET6, text, packed + 2) != 1:
                return NULL
            if memcmp(packed + 2, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
                packed[0] = 4
                memcpy(packed + 2, packed + 14, 4)
        widest = 32 if packed[0] == 4 else 128
        offset = 0 if packed[0] == 4 else FAMILY_6
        for length in range(widest, -1, -1):
            if self.head.lengths[offset + length]:
                _mask(packed, length, widest)
                packed[1] = <char>length
                entry = self._probe(_hash(FNV, packed, 2 + widest // 8), packed, 2 + widest // 8)
                if entry != NULL:
                    return entry
        return NULL


cdef inline bint _blank(char c) noexcept nogil:
    return c == c' ' or c == c'\t'


cdef inline uint64_t _hash(uint64_t hash, const char *p, uint32_t n) noexcept nogil:
    """FNV-1a, continued from `hash`. The keys come from the operator, so clients cannot choose colliding ones."""
    cdef uint32_t i
    for i in range(n):
        hash = (hash ^ <uint8_t>p[i]) * 1099511628211U
    return hash


cdef inline uint32_t _folded(uint64_t hash) noexcept nogil:
    return <uint32_t>(hash ^ (hash >> 32))


cdef void _mask(char *packed, int length, int widest) noexcept nogil:
    """Clear the bits of an address beyond `length`."""
    cdef int i
    for i in range(length // 8, widest // 8):
        packed[2 + i] &= <char>(0xFF00 >> (length - 8 * i) if length > 8 * i else 0)


cdef int _write(int descriptor, const char *p, uint64_t n) except -1:
    """Write a block of memory."""
    cdef uint64_t at = 0
    while at < n:
        at += <uint64_t>os.write(descriptor, p[at:min(n, at + (1 << 20))])
    return 0
