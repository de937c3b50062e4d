from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum ChunkEvent:
    CHUNK_MORE = 0          # all input is used up
    CHUNK_DATA = 1          # a piece of body
    CHUNK_END = 2           # the last CRLF has been read
    CHUNK_BAD = 3
    CHUNK_TRAILER = 4       # a piece of the trailer section

cdef struct Chunked:
    uint64_t left           # bytes of the current chunk not yet seen
    uint32_t spent          # bytes of extensions and trailers so far
    uint8_t state
    uint8_t digits
    uint8_t named           # a trailer line has had its colon
    uint8_t padded          # white space may follow a chunk's size

cdef void chunk_start(Chunked *c, bint padded) noexcept nogil
cdef int chunk_next(Chunked *c, const char **at, const char *end, const char **data, size_t *n) noexcept nogil
cdef int chunk_head(char *out, size_t n) noexcept nogil
