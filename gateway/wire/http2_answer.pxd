from libc.stdint cimport uint8_t, uint32_t
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Bounds, Head

# The header block of a response, or of its trailers, on its way to what HTTP/1 writes. Zeroed, it is empty.
cdef struct AnswerBlock:
    Out text                # the head; of trailers: complete lines
    uint8_t given           # :status has come
    uint8_t trailers        # it is a trailer section
    int reason              # why it is refused; the first counts
    uint32_t lines          # fields in `text`
    uint32_t count          # fields that came
    size_t size             # bytes of their names and values

cdef void answer_clear(AnswerBlock *b) noexcept nogil
cdef void answer_free(AnswerBlock *b) noexcept nogil
cdef int answer_field(AnswerBlock *b, const Bounds *bounds, const char *name, size_t n, const char *value,
                      size_t value_n) except -1
cdef int answer_end(AnswerBlock *b, Bounds *bounds, Head *h) except -1
