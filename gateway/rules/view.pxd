from libc.stdint cimport int64_t, uint8_t, uint32_t
from gateway.wire.edit cimport Out
from gateway.wire.head cimport Head
from gateway.wire.origin cimport Provenance

# The part of a request in which a name is looked up.
cdef enum Where:
    IN_HEADER = 0
    IN_COOKIE
    IN_QUERY

# A value that View.next has found, and where to continue: both 0 at the start.
cdef struct Value:
    int field                       # of the head
    uint32_t at                     # in it, or in the query
    const char *p
    uint32_t n

cdef class Edits:
    """Changes to the fields of a head, in the order in which they were made."""
    cdef dict names                 # lower-case name -> name: fields to leave out
    cdef list lines                 # (lower-case name, complete line) to add
    cdef list by_status             # (ranges of statuses, Edits for answers with one of them), or None
    cdef int status                 # of the answer, once it is known

    cdef set fields(self)
    cdef int leave_out(self, const char *p, Head *h, bint to_server) except -1
    cdef Edits of_status(self, tuple ranges)
    cdef int settle_status(self, int status) except -1
    cdef bytes added(self)
    cdef bytes merged(self, bytes lines)

cdef class Resources:
    """The state of the site for expressions. This base class has no data: for a site that is not running."""
    cdef object load(self, str backend)
    cdef int up(self, str backend) except -1
    cdef int sessions(self) except -1
    cdef object site_load(self, str site)
    cdef double site_spill(self, str site) except -1
    cdef double draw(self) except -1

cdef class View:
    """One request as rules see it: a reference to a head, and the changes by rules so far."""
    cdef const char *p              # the head as received
    cdef Head *h
    cdef Head *own_head             # of a view that has parsed a head itself
    cdef bytes own_bytes
    cdef uint8_t scheme             # 1 http, 2 https
    cdef readonly bytes client      # address as text
    cdef bytes peer                 # the same for the peer of the connection
    cdef public list notes          # notes of steps on what they did, human-readable; None: not requested
    cdef bint verified              # the client has shown a certificate that is valid here
    cdef uint8_t family             # of `address`: 0 not parsed yet, 4, 6, 1: none
    cdef uint8_t address[16]
    cdef const char *uri            # path in its normal form as rules see it, and query
    cdef uint32_t uri_len
    cdef uint32_t path_len
    cdef const char *sent           # the path in its normal form as sent to the server, if it differs
    cdef uint32_t sent_len          # 0: it is the same
    cdef int accept                 # of wire/target.pxd, for paths that rules make
    cdef Out normal                 # buffer that `uri` or `sent` points into
    cdef Out seen                   # buffer that `uri` points into
    cdef bytes owned                # buffer that uri points into once a rule has changed the query
    cdef bytes parameter            # buffer of a query value that had to be decoded
    cdef bint changed               # by the current route
    cdef int matched                # bytes of the path that the route's prefix covers
    cdef public str frontend        # its name, or None
    cdef Provenance provenance      # of its connection, or None
    cdef public bint reproducible      # no traffic: nothing is drawn at random
    cdef public dict pages          # status -> (header lines, body): pages of its routes; None: none
    cdef public dict groups         # named groups of the route's regular expressions: bytes; None: none
    cdef public str klass           # the request's class, or None
    cdef public str arrived         # the site that has just redirected the client here, or None
    cdef public str site            # the site that the client is redirected to, or None
    cdef int64_t bandwidth          # bytes per second of the response body, as routes require; 0: no limit
    cdef public bytes user          # that has logged in by basic_auth; None: none
    cdef public dict settled        # answers to the questions of this request, by Question.key; None: there are none
    cdef int64_t body_bytes         # largest request body, as routes require; -1: no limit
    cdef int64_t header_bytes       # largest request head, likewise
    cdef list charges               # rate_limit.Charge of each limit that counts it; None: none
    cdef public bytes request_id    # None: not requested yet, or the request has none
    cdef const char *id_p           # the id, converted to bytes when a rule uses it; set by the decision, after `begin`
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
