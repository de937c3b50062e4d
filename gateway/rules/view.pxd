from libc.stdint cimport int64_t, uint8_t, uint32_t
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Head

# What of a request a name is looked up in.
cdef enum Where:
    IN_HEADER = 0
    IN_COOKIE
    IN_QUERY

# A value that View.next has found, and where to go on: both 0 to begin with.
cdef struct Value:
    int field                       # of the head
    uint32_t at                     # in it, or in the query
    const char *p
    uint32_t n

cdef class Edits:
    """Changes to the fields of a head, in the order they were asked for."""
    cdef dict names                 # lower-case name -> name: fields to leave out
    cdef list lines                 # (lower-case name, complete line) to add

    cdef int leave_out(self, const char *p, Head *h) except -1
    cdef bytes added(self)
    cdef bytes merged(self, bytes lines)

cdef class Resources:
    """What expressions ask about the state of the site. This one knows nothing: for a site that does not run."""
    cdef object load(self, str backend)
    cdef int up(self, str backend) except -1
    cdef int sessions(self) except -1
    cdef object site_load(self, str site)

cdef class View:
    """One request as rules see it: a window on a head, and what rules have made of it so far."""
    cdef const char *p              # the head as received
    cdef Head *h
    cdef Head *own_head             # of a view that has read a head by itself
    cdef bytes own_bytes
    cdef uint8_t scheme             # 1 http, 2 https
    cdef readonly bytes client      # address as text
    cdef bytes peer                 # the same of the other end of the connection
    cdef public list notes          # for people: what steps say of what they did; None: nobody asks
    cdef uint8_t family             # of `address`: 0 not looked at yet, 4, 6, 1: none
    cdef uint8_t address[16]
    cdef const char *uri            # path in its normal form as rules see it, and query
    cdef uint32_t uri_len
    cdef uint32_t path_len
    cdef const char *sent           # the path in its normal form as the server gets it, where that is another one
    cdef uint32_t sent_len          # 0: it is the same
    cdef int accept                 # of wire/target.pxd, for paths that rules make
    cdef Out normal                 # what `uri` or `sent` points into
    cdef Out seen                   # what `uri` points into
    cdef bytes owned                # what uri points into once a rule has changed the query
    cdef bytes parameter            # what a value of the query points into that had to be decoded
    cdef bint changed               # by the route at work
    cdef int matched                # bytes of the path that the route's prefix covers
    cdef public dict groups         # named groups of the route's regular expressions: bytes; None: none
    cdef public str klass           # the request's class, or None
    cdef public str arrived         # the site that has just sent the visitor here, or None
    cdef public str site            # the site that the visitor is sent to, or None
    cdef int64_t bandwidth          # bytes per second of the answer's body, as routes say; 0: any number
    cdef list charges               # rate_limit.Charge of each rate that routes count it by; None: none
    cdef public bytes request_id    # None: not asked for yet, or the request has none
    cdef const char *id_p           # the id, made into bytes when a rule asks; set by the decision, after `begin`
    cdef uint32_t id_n
    cdef readonly Edits request_edits
    cdef readonly Edits response_edits
    cdef public Resources resources
    cdef public object clock        # seconds since 1970

    cdef int look(self, const char *p, Head *h, bint https, bytes client, bytes peer, int accept) except -1
    cdef int normalised(self, const char *path, uint32_t path_len, const char *query, uint32_t query_len,
                        int accept) except -1
    cdef bytes id(self)
    cdef bytes path(self)
    cdef bytes query(self)
    cdef bytes host(self)
    cdef bint next(self, int where, bytes name, Value *found) except -1
    cdef bint _next_parameter(self, bytes name, Value *found) except -1
    cdef list values(self, int where, bytes name)
    cdef int own(self, bytes uri, uint32_t path_len) except -1
    cdef int parse_client(self) except -1
    cdef Edits edits(self, bint response)

cdef bytes decoded(const char *p, uint32_t n, bint form)
