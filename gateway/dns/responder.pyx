"""Answers DNS queries: from the bytes of a query to the bytes of a response, and whole batches of datagrams.

What is said is made elsewhere (gateway/dns/table.py) and kept as the bytes behind the question; here the header, the
question as the client has written it (its letters' case is a client's protection against forgery), and the EDNS options
are put around. A client that speaks UDP may be forged: what it gets is limited by size and by rate, unless it proves
with a cookie that it receives what is sent to it (RFC 7873, RFC 9018).
"""

import logging
import os
import time

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from gateway.dns.query cimport (
    HEAD, MAX_NAME, NOERROR, SERVFAIL, SILENCE, Query, read_query,
)
from gateway.wire.siphash cimport siphash64
from qos.rates cimport Rate, RateTable, rate_of

from loadagent.log_throttle import LogThrottle

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct timespec:
        pass
    int recvmmsg(int fd, mmsghdr *messages, unsigned int n, int flags, timespec *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int n, int flags)
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    unsigned char *CMSG_DATA(cmsghdr *part)
    int MSG_DONTWAIT, MSG_TRUNC, MSG_CTRUNC, AF_INET, AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    struct sockaddr_storage:
        unsigned short ss_family
    struct in_pktinfo:
        int ipi_ifindex
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    int IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO

cdef enum:
    BATCH = 64              # datagrams that are read or sent by one call
    TURNS = 4               # batches before others of the loop have their turn
    LONGEST_QUERY = 4096    # bytes; a datagram that is longer is no query
    LEAST_LIMIT = 512       # bytes of a UDP response that every client takes (RFC 1035 section 4.2.1)
    LONGEST_ANSWER = 4096   # bytes of a datagram; the site file allows no more
    CONTROL = 64            # bytes for where a datagram was sent to
    CODES = 24              # response codes that are counted
    OPT = 41
    OWN_COOKIE = 16         # bytes of a server's cookie (RFC 9018 section 4)
    COOKIE_OLD = 3600       # seconds for which one is valid, and for which it is sent again
    COOKIE_FRESH = 1800
    COOKIE_AHEAD = 300

_log = logging.getLogger("gateway.dns")

NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS",
}
REASONS = ("silent", "rate", "send")
"""Why a datagram got no response: it was not a query, its sender gets too many, the socket refused."""


cdef class Answer:
    """What is said about a name and type: all that is behind the question, and where it depends on the question.

    patches: (offset, distance) of pointers to `distance` bytes behind the end of the question's name, which may be
    negative: names that end as that one does are written only once (RFC 1035 section 4.1.4). number: answers of the
    same number are limited together.
    """
    cdef readonly int code
    cdef readonly bint authoritative
    cdef readonly int answers
    cdef readonly int authority
    cdef readonly bytes records
    cdef readonly tuple patches
    cdef readonly unsigned int number

    def __init__(self, int code, bytes records=b"", int answers=0, int authority=0, patches=(), *,
                 bint authoritative=True, unsigned int number=0):
        self.code = code
        self.records = records
        self.answers = answers
        self.authority = authority
        self.patches = tuple(patches)
        self.authoritative = authoritative
        self.number = number
        for offset, _ in self.patches:
            if not 0 <= offset <= len(records) - 2:
                raise ValueError("a patch is outside of the records")


cdef inline void _put16(uint8_t *p, unsigned int value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline void _put32(uint8_t *p, uint32_t value) noexcept nogil:
    _put16(p, value >> 16)
    _put16(p + 2, value & 0xFFFF)


cdef inline uint32_t _u32(const uint8_t *p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]


# Where a query comes from.
cdef struct Client:
    uint8_t address[16]
    uint8_t length          # 4 or 16 bytes
    bint tcp


cdef class Responder:
    """Answers queries by `find`: (name in lower case, type, client's address, its known bits) → (Answer, scope).

    cookie_key: 16 bytes. rates: where responses are counted; a table of its own by default. limit: bytes of a UDP
    response. rate: responses per second for a client network and name; 0: no limit.
    """
    cdef public object find
    cdef bytes cookie_key
    cdef bytes nsid
    cdef size_t limit
    cdef bint subnets
    cdef RateTable rates
    cdef Rate rate
    cdef bint limited
    cdef unsigned int over
    cdef object throttle
    cdef unsigned long long udp, tcp, truncated, cookies, bad_cookies, subnet_queries, edns_queries
    cdef unsigned long long codes[CODES]
    cdef unsigned long long dropped[3]
    cdef uint8_t received[BATCH][LONGEST_QUERY]
    cdef uint8_t sent[BATCH][LONGEST_ANSWER]
    cdef uint8_t control[BATCH][CONTROL]
    cdef sockaddr_storage peers[BATCH]
    cdef iovec vectors[BATCH]
    cdef iovec outgoing[BATCH]
    cdef mmsghdr incoming[BATCH]
    cdef mmsghdr replies[BATCH]

    def __init__(self, find, bytes cookie_key, RateTable rates=None):
        if len(cookie_key) != 16:
            raise ValueError("the key of cookies has 16 bytes")
        self.find = find
        self.rates = RateTable(bytearray(1 << 20), os.urandom(16)) if rates is None else rates
        self.throttle = LogThrottle()
        self.configure(cookie_key)

    def configure(self, bytes cookie_key, *, nsid=None, int limit=1232, int rate=0, bint subnets=True):
        """Answer like this from now on."""
        if len(cookie_key) != 16:
            raise ValueError("the key of cookies has 16 bytes")
        self.cookie_key = cookie_key
        self.nsid = nsid
        self.limit = min(max(limit, LEAST_LIMIT), LONGEST_ANSWER)
        self.subnets = subnets
        self.limited = rate > 0
        if rate > 0:
            self.rate = rate_of(min(rate, 100000), max(rate, 1))

    # ------------------------------------------------------------------------------------------------------- one query

    cdef int respond_to(self, const uint8_t *p, size_t n, const Client *client, uint8_t *out, size_t most) except -1:
        """Write the response to a message; returns its bytes, 0: none. `most`: bytes at `out`, at least 512."""
        cdef Query q
        cdef int code = read_query(p, n, &q)
        cdef Answer answer = None
        cdef int scope = 0
        cdef int cookie = 0
        cdef size_t limit = most
        if client.tcp:
            self.tcp += 1
        else:
            self.udp += 1
        if code == SILENCE:
            self.dropped[0] += 1
            return 0
        if q.edns:
            self.edns_queries += 1
        if q.subnet and self.subnets:
            self.subnet_queries += 1
        if q.cookie_len:
            cookie = self.known(&q, client)
        if code == NOERROR and q.name_len:
            try:
                answer, scope = self.look_up(p, &q, client)
                code = answer.code
            except Exception:
                if self.throttle.ask("lookup", time.monotonic()) is not None:
                    _log.exception("cannot answer a query; the client gets SERVFAIL")
                answer = None
                code = SERVFAIL
        if not client.tcp:
            limit = LEAST_LIMIT
            if q.edns and q.size > LEAST_LIMIT:
                limit = min(self.limit, <size_t>q.size)
            if self.limited and cookie != 1 and not self.within(&q, answer, code, client):
                self.over += 1
                if self.over & 1:
                    self.dropped[1] += 1
                    return 0
                return self.write(p, &q, code, None, scope, cookie, client, out, 0)
        return self.write(p, &q, code, answer, scope, cookie, client, out, limit)

    cdef tuple look_up(self, const uint8_t *p, Query *q, const Client *client):
        cdef uint8_t name[MAX_NAME]
        cdef size_t i
        cdef uint8_t c
        for i in range(q.name_len):         # lengths of labels are below 64, so they are no letters
            c = p[HEAD + i]
            name[i] = c + 32 if 65 <= c <= 90 else c
        if self.subnets and q.subnet and q.source:
            return self.find(name[:q.name_len], q.type, q.address[:4 if q.family == 1 else 16], q.source)
        return self.find(name[:q.name_len], q.type, client.address[:client.length], 8 * client.length)

    cdef int write(self, const uint8_t *p, Query *q, int code, Answer answer, int scope, int cookie,
                   const Client *client, uint8_t *out, size_t limit) except -1:
        """Write a response of at most `limit` bytes; what does not fit is left out, and TC set. 0: nothing but that."""
        cdef size_t at = HEAD, options, n, offset
        cdef uint16_t flags = 0x8000 | (q.flags & 0x7900) | (q.flags & 0x0010)      # QR, opcode, RD, CD
        cdef int answers = 0, authority = 0
        cdef int distance
        cdef const char *records
        if q.name_len:
            memcpy(out + at, p + at, q.name_len + 4)
            at += q.name_len + 4
        options = self.options_size(q)
        if answer is None and limit == 0:
            flags |= 0x0200
        elif answer is not None:
            if answer.authoritative:
                flags |= 0x0400
            n = len(answer.records)
            if at + n + options > limit:
                flags |= 0x0200
            else:
                records = answer.records
                memcpy(out + at, records, n)
                for offset, distance in answer.patches:
                    _put16(out + at + offset, 0xC000 | ((HEAD + q.name_len + distance) & 0x3FFF))
                at += n
                answers = answer.answers
                authority = answer.authority
        if flags & 0x0200:
            self.truncated += 1
        _put16(out, q.id)
        _put16(out + 2, flags | (code & 15))
        _put16(out + 4, 1 if q.name_len else 0)
        _put16(out + 6, answers)
        _put16(out + 8, authority)
        _put16(out + 10, 1 if q.edns else 0)
        if q.edns:
            at += self.write_options(q, code, scope, cookie, client, out + at)
        if 0 <= code < CODES:
            self.codes[code] += 1
        return <int>at

    # ------------------------------------------------------------------------------------------------------------ EDNS

    cdef size_t options_size(self, Query *q):
        """The bytes that write_options takes."""
        cdef size_t n = 11
        if not q.edns:
            return 0
        if q.nsid and self.nsid is not None:
            n += 4 + len(self.nsid)
        if q.subnet and self.subnets:
            n += 8 + (q.source + 7) // 8
        if q.cookie_len:
            n += 4 + 8 + OWN_COOKIE
        return n

    cdef size_t write_options(self, Query *q, int code, int scope, int cookie, const Client *client,
                              uint8_t *out) except? 0:
        cdef size_t at = 11, bytes_of
        cdef const char *text
        out[0] = 0
        _put16(out + 1, OPT)
        _put16(out + 3, <unsigned int>self.limit)
        out[5] = <uint8_t>(code >> 4)
        out[6] = 0
        _put16(out + 7, 0x8000 if q.dnssec else 0)
        if q.nsid and self.nsid is not None:
            text = self.nsid
            bytes_of = len(self.nsid)
            _put16(out + at, 3)
            _put16(out + at + 2, <unsigned int>bytes_of)
            memcpy(out + at + 4, text, bytes_of)
            at += 4 + bytes_of
        if q.subnet and self.subnets:
            bytes_of = (q.source + 7) // 8
            _put16(out + at, 8)
            _put16(out + at + 2, <unsigned int>(4 + bytes_of))
            _put16(out + at + 4, q.family)
            out[at + 6] = q.source
            out[at + 7] = <uint8_t>(scope if q.source else 0)
            memcpy(out + at + 8, q.address, bytes_of)
            at += 8 + bytes_of
        if q.cookie_len:
            _put16(out + at, 10)
            _put16(out + at + 2, 8 + OWN_COOKIE)
            memcpy(out + at + 4, q.cookie, 8)
            if cookie == 1 and not self.old(q):
                memcpy(out + at + 12, q.cookie + 8, OWN_COOKIE)
            else:
                self.make_cookie(q.cookie, <uint32_t>(<int64_t>time.time()), client, out + at + 12)
            at += 4 + 8 + OWN_COOKIE
        _put16(out + 9, <unsigned int>(at - 11))
        return at

    cdef int make_cookie(self, const uint8_t *theirs, uint32_t now, const Client *client, uint8_t *to) except -1:
        """Write the server's cookie for a client's (RFC 9018 section 4)."""
        cdef uint8_t text[8 + 8 + 16]
        cdef const char *key = self.cookie_key
        cdef uint64_t digest
        cdef int i
        to[0] = 1
        memset(to + 1, 0, 3)
        _put32(to + 4, now)
        memcpy(text, theirs, 8)
        memcpy(text + 8, to, 8)
        memcpy(text + 16, client.address, client.length)
        digest = siphash64(<const uint8_t *>key, text, 16 + client.length)
        for i in range(8):
            to[8 + i] = <uint8_t>(digest >> (8 * i))
        return 0

    cdef bint old(self, Query *q) except -1:
        return <int64_t>time.time() - <int64_t>_u32(q.cookie + 12) > COOKIE_FRESH

    cdef int known(self, Query *q, const Client *client) except -1:
        """Whether the client has shown the cookie that it was given: 1, 0 without one, 2 with a wrong one."""
        cdef uint8_t right[OWN_COOKIE]
        cdef int64_t age
        cdef int i, different = 0
        if q.cookie_len == 8:
            return 0
        age = <int64_t>time.time() - <int64_t>_u32(q.cookie + 12)
        self.make_cookie(q.cookie, _u32(q.cookie + 12), client, right)
        if q.cookie_len == 8 + OWN_COOKIE and -COOKIE_AHEAD <= age <= COOKIE_OLD:
            for i in range(OWN_COOKIE):     # all of them: how long it takes says nothing about the right one
                different |= right[i] ^ q.cookie[8 + i]
            if not different:
                self.cookies += 1
                return 1
        self.bad_cookies += 1
        return 2

    # ---------------------------------------------------------------------------------------------------------- limits

    cdef bint within(self, Query *q, Answer answer, int code, const Client *client) except -1:
        """Count a response; whether the client's network may have it."""
        cdef uint8_t text[16]
        cdef const char *secret = self.rates.secret
        cdef int kept = 3 if client.length == 4 else 7      # bytes of the network: /24, /56
        memset(text, 0, sizeof(text))
        memcpy(text, client.address, kept)
        text[8] = <uint8_t>client.length
        text[9] = <uint8_t>code
        _put32(text + 10, answer.number if answer is not None else 0)
        return self.rates.take(siphash64(<const uint8_t *>secret, text, sizeof(text)), &self.rate,
                               <int64_t>time.monotonic_ns(), 0) == 0

    # ----------------------------------------------------------------------------------------------------- the outside

    def respond(self, bytes message, bytes address, *, bint tcp=False):
        """The response to a message from an address of 4 or 16 bytes; None: there is none."""
        cdef Client client
        cdef bytearray out
        cdef uint8_t *to
        cdef int n
        if len(address) != 4 and len(address) != 16:
            raise ValueError("an address has 4 or 16 bytes")
        memset(&client, 0, sizeof(client))
        client.length = <uint8_t>len(address)
        memcpy(client.address, <const char *>address, client.length)
        client.tcp = tcp
        out = bytearray(65535 if tcp else LONGEST_ANSWER)
        to = out
        n = self.respond_to(message, len(message), &client, to, len(out))
        return bytes(out[:n]) if n else None

    def serve(self, int fd):
        """Answer the datagrams that wait at a socket, in the order in which they came. Raises OSError."""
        cdef int _, count, i, ready, n
        cdef Client client
        cdef msghdr *head
        for _ in range(TURNS):
            for i in range(BATCH):
                self.vectors[i].iov_base = self.received[i]
                self.vectors[i].iov_len = LONGEST_QUERY
                head = &self.incoming[i].msg_hdr
                memset(head, 0, sizeof(msghdr))
                head.msg_name = &self.peers[i]
                head.msg_namelen = sizeof(sockaddr_storage)
                head.msg_iov = &self.vectors[i]
                head.msg_iovlen = 1
                head.msg_control = self.control[i]
                head.msg_controllen = CONTROL
            count = recvmmsg(fd, self.incoming, BATCH, MSG_DONTWAIT, NULL)
            if count <= 0:
                return
            ready = 0
            for i in range(count):
                head = &self.incoming[i].msg_hdr
                if head.msg_flags & MSG_TRUNC or not _client(head, &client):
                    self.udp += 1
                    self.dropped[0] += 1
                    continue
                n = self.respond_to(self.received[i], self.incoming[i].msg_len, &client, self.sent[ready],
                                    LONGEST_ANSWER)
                if n == 0:
                    continue
                self.outgoing[ready].iov_base = self.sent[ready]
                self.outgoing[ready].iov_len = n
                self.replies[ready].msg_hdr = head[0]
                self.replies[ready].msg_hdr.msg_iov = &self.outgoing[ready]
                _from_where_it_came(&self.replies[ready].msg_hdr)
                ready += 1
            self.send(fd, ready)
            if count < BATCH:
                return

    cdef int send(self, int fd, int ready) except -1:
        """Send what was made. A datagram that the socket refuses is lost, as it could be on its way."""
        cdef int done = 0, n
        while done < ready:
            n = sendmmsg(fd, self.replies + done, ready - done, MSG_DONTWAIT)
            if n <= 0:
                self.dropped[2] += 1
                n = 1
            done += n
        return 0

    def counts(self):
        """The counters: queries by transport and so on, responses by code, datagrams without one by reason."""
        return {
            "udp": self.udp,
            "tcp": self.tcp,
            "truncated": self.truncated,
            "cookies": self.cookies,
            "bad_cookies": self.bad_cookies,
            "subnets": self.subnet_queries,
            "edns": self.edns_queries,
            "codes": {NAMES.get(i, str(i)): self.codes[i] for i in range(CODES) if self.codes[i]},
            "dropped": {REASONS[i]: self.dropped[i] for i in range(3)},
        }


cdef bint _client(msghdr *head, Client *client) noexcept nogil:
    """Fill in who sent a datagram; whether that can be answered."""
    cdef unsigned short family = (<sockaddr_storage *>head.msg_name).ss_family
    cdef sockaddr_in *four = <sockaddr_in *>head.msg_name
    cdef sockaddr_in6 *six = <sockaddr_in6 *>head.msg_name
    memset(client, 0, sizeof(Client))
    if family == AF_INET:
        client.length = 4
        memcpy(client.address, &four.sin_addr, 4)
        return four.sin_port != 0
    if family == AF_INET6:
        client.length = 16
        memcpy(client.address, &six.sin6_addr, 16)
        return six.sin6_port != 0
    return False


cdef void _from_where_it_came(msghdr *head) noexcept nogil:
    """Send from the address that the query was sent to, by whatever interface leads there."""
    cdef cmsghdr *part = NULL
    cdef in6_pktinfo *six
    if not head.msg_flags & MSG_CTRUNC:
        part = CMSG_FIRSTHDR(head)
    head.msg_flags = 0
    if part == NULL:
        head.msg_control = NULL
        head.msg_controllen = 0
    elif part.cmsg_level == IPPROTO_IP and part.cmsg_type == IP_PKTINFO:
        (<in_pktinfo *>CMSG_DATA(part)).ipi_ifindex = 0
    elif part.cmsg_level == IPPROTO_IPV6 and part.cmsg_type == IPV6_PKTINFO:
        six = <in6_pktinfo *>CMSG_DATA(part)
        if not (six.ipi6_addr.s6_addr[0] == 0xFE and six.ipi6_addr.s6_addr[1] & 0xC0 == 0x80):
            six.ipi6_ifindex = 0            # link-local addresses need their interface
    else:
        head.msg_control = NULL
        head.msg_controllen = 0
