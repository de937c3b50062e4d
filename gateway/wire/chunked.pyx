"""The chunked coding (RFC 9112 section 7.1), parsed strictly and re-encoded.

A body is decoded into runs of data and encoded again with chunk lines of our own, so that no extension and no odd
spelling of a size reaches the other side. Extensions are checked, counted and dropped; trailers are checked, counted
(8 KiB with the extensions) and handed over in pieces, for the caller to decide what may pass.
"""

from gateway.wire.head cimport is_token

cdef enum:
    S_SIZE, S_SPACE, S_EXT, S_SIZE_LF, S_DATA, S_DATA_CR, S_DATA_LF, S_LINE, S_TRAILER, S_TRAILER_LF, S_END_LF, S_DONE

cdef enum:
    MAX_EXTRA = 8192
    MAX_DIGITS = 15         # of a chunk size: no overflow of 64 bits, and more than any disk holds

cdef char *DIGITS = b"0123456789abcdef"


cdef void chunk_start(Chunked *c, bint padded) noexcept nogil:
    """Begin with a body. padded: take white space behind a size, as some servers fill it up and as nginx, HAProxy and
    browsers read it. RFC 9112 section 7.1 does not have it, so of requests it is refused: the server behind could read
    it in another way. An answer goes on to the client in chunk lines of our own."""
    c.left = 0
    c.spent = 0
    c.state = S_SIZE
    c.digits = 0
    c.named = 0
    c.padded = padded


cdef inline int _digit(uint8_t ch) noexcept nogil:
    if c'0' <= ch <= c'9':
        return ch - c'0'
    ch |= 32
    return ch - c'a' + 10 if c'a' <= ch <= c'f' else -1


cdef int chunk_next(Chunked *c, const char **at, const char *end, const char **data, size_t *n) noexcept nogil:
    """Read on at at[0] (moved past what was read).

    On CHUNK_DATA and CHUNK_TRAILER, `data` and `n` are a run of the body or of trailer lines inside the input.
    """
    cdef const char *p = at[0]
    cdef uint8_t ch, state = c.state
    cdef int digit
    cdef size_t run
    cdef const char *lines = NULL           # where a run of trailer lines begins
    if state == S_TRAILER or state == S_TRAILER_LF:
        lines = p
    while p < end:
        ch = <uint8_t>p[0]
        if state == S_DATA:
            run = end - p
            if run > c.left:
                run = c.left
            c.left -= run
            data[0] = p
            n[0] = run
            at[0] = p + run
            c.state = S_DATA_CR if c.left == 0 else S_DATA
            return CHUNK_DATA
        p += 1
        if state == S_SIZE:
            digit = _digit(ch)
            if digit >= 0:
                c.digits += 1
                if c.digits > MAX_DIGITS:
                    return CHUNK_BAD
                c.left = c.left * 16 + digit
            elif c.digits == 0:
                return CHUNK_BAD
            elif ch == c'\r':
                state = S_SIZE_LF
            elif ch == c';':
                state = S_EXT
            elif ch == c' ' or ch == c'\t':
                state = S_SPACE
            else:
                return CHUNK_BAD
        elif state == S_SPACE:
            c.spent += 1
            if ch == c';':
                state = S_EXT
            elif ch == c'\r' and c.padded:
                state = S_SIZE_LF
            elif (ch != c' ' and ch != c'\t') or c.spent > MAX_EXTRA:
                return CHUNK_BAD
        elif state == S_EXT:
            c.spent += 1
            if ch == c'\r':
                state = S_SIZE_LF
            elif (ch < 32 and ch != c'\t') or ch == 127 or c.spent > MAX_EXTRA:
                return CHUNK_BAD
        elif state == S_SIZE_LF:
            if ch != c'\n':
                return CHUNK_BAD
            state = S_LINE if c.left == 0 else S_DATA
        elif state == S_DATA_CR:
            if ch != c'\r':
                return CHUNK_BAD
            state = S_DATA_LF
        elif state == S_DATA_LF:
            if ch != c'\n':
                return CHUNK_BAD
            state = S_SIZE
            c.digits = 0
        elif state == S_LINE:                   # at the start of a trailer line, or of the empty one
            c.spent += 1
            c.named = 0
            if ch == c'\r':
                state = S_END_LF
                if lines != NULL:
                    data[0] = lines
                    n[0] = p - 1 - lines
                    at[0] = p
                    c.state = state
                    return CHUNK_TRAILER
            elif is_token(<const char *>&ch, 1) and c.spent <= MAX_EXTRA:
                if lines == NULL:
                    lines = p - 1
                state = S_TRAILER
            else:
                return CHUNK_BAD
        elif state == S_TRAILER:
            c.spent += 1
            if c.spent > MAX_EXTRA:
                return CHUNK_BAD
            if ch == c'\r':
                if not c.named:
                    return CHUNK_BAD
                state = S_TRAILER_LF
            elif c.named:
                if (ch < 32 and ch != c'\t') or ch == 127:
                    return CHUNK_BAD
            elif ch == c':':
                c.named = 1
            elif not is_token(<const char *>&ch, 1):
                return CHUNK_BAD
        elif state == S_TRAILER_LF:
            if ch != c'\n':
                return CHUNK_BAD
            state = S_LINE
        elif state == S_END_LF:
            if ch != c'\n':
                return CHUNK_BAD
            c.state = S_DONE
            at[0] = p
            return CHUNK_END
        else:
            return CHUNK_BAD
    c.state = state
    at[0] = p
    if lines != NULL and p > lines:
        data[0] = lines
        n[0] = p - lines
        return CHUNK_TRAILER
    return CHUNK_MORE


cdef int chunk_head(char *out, size_t n) noexcept nogil:
    """Write the chunk line for n bytes; its length (at most 18)."""
    cdef char digits[16]
    cdef int count = 0, i
    while True:
        digits[count] = DIGITS[n & 15]
        count += 1
        n >>= 4
        if n == 0:
            break
    for i in range(count):
        out[i] = digits[count - 1 - i]
    out[count] = c'\r'
    out[count + 1] = c'\n'
    return count + 2


cdef class Decoder:
    """Feed it bytes, for a test: `feed` returns the data decoded so far in this call; `state` tells the rest."""

    cdef Chunked chunked
    cdef readonly str state             # "more", "end" or "bad"
    cdef readonly bytes rest            # what follows the end
    cdef readonly bytes trailers        # as they came, complete lines once the state is "end"

    def __init__(self, bint padded=False):
        chunk_start(&self.chunked, padded)
        self.state = "more"
        self.rest = self.trailers = b""

    def feed(self, bytes block):
        cdef const char *at = block
        cdef const char *end = at + len(block)
        cdef const char *data = NULL
        cdef size_t n = 0
        cdef int event
        pieces = []
        while True:
            event = chunk_next(&self.chunked, &at, end, &data, &n)
            if event == CHUNK_DATA:
                pieces.append(data[:n])
                continue
            if event == CHUNK_TRAILER:
                self.trailers += data[:n]
                continue
            if event == CHUNK_END:
                self.state = "end"
                self.rest = block[len(block) - (end - at):]
            elif event == CHUNK_BAD:
                self.state = "bad"
            return b"".join(pieces)


def encode(bytes data):
    """One chunk; of nothing, the last one."""
    cdef char line[20]
    cdef int n = chunk_head(line, len(data))
    return line[:n] + data + b"\r\n"
