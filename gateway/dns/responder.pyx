"""Answers DNS queries: from the bytes of a query to the bytes of a response, and whole batches of datagrams.

What is said is made elsewhere (gateway/dns/table.py) and kept as the bytes behind the question; here the header, the
question as the client has written it (its letters' case is a client's protection against forgery), and the EDNS options
are put around. A client that speaks UDP may be forged: what it gets is limited by size and by rate, unless it proves
with a cookie that it receives what is sent to it (RFC 7873, RFC 9018).
"""

import logging
import os
import threading
import time

from libc.errno cimport EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from gateway.dns.kept cimport NAME_ROOM, Answer, Kept, Patch, Said, patches_of, records_of
from gateway.dns.query cimport HEAD, NOERROR, SERVFAIL, SILENCE, Query, read_query
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

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *places, unsigned long n, int milliseconds)
    short POLLIN

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)

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
    TURNS = 16              # batches before others of the loop have their turn
    BUSY = 8                # datagrams at once from which on more are waited for
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
    APART = 64              # bytes between buffers, so that not all of them fall on the same lines of the cache

_log = logging.getLogger("gateway.dns")

NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS",
}
REASONS = ("silent", "rate", "send")
"""Why a datagram got no response: it was not a query, its sender gets too many, the socket refused."""


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


# A message while it is answered.
cdef struct Asked:
    Query query
    Client client
    int code                # of read_query
    uint64_t hash           # of the question
    uint8_t lower[NAME_ROOM]


cdef class Responder:
    """Answers queries by `find`: (name in lower case, type, client's address, its known bits, whether signatures are
    wanted, whether the query has come from that address) → (Answer, scope, turns).

    `turns` says how long that holds: 0: this time; 1: for all clients, and it is kept here; more: the answers to so
    many queries after each other are the same again for the next ones, so they are kept once all were found. A new
    `find` begins with nothing kept.

    One thread may answer datagrams (serve) while another one answers messages (respond). `find` is called with `lock`
    held: who changes what it says, or calls a method that forgets or configures, holds that, too.

    cookie_key: 16 bytes. rates: where responses are counted; a table of its own by default. gather: microseconds for
    which a busy server waits for more datagrams, since those that come together cost the kernel less than one by one;
    0: it never waits. limit: bytes of a UDP response. rate: responses per second for a client network and name; 0: no
    limit.
    """
    cdef readonly object lock
    cdef object _find
    cdef Kept kept
    cdef dict found         # answers given in turn that are being collected, by name and type
    cdef int64_t now        # seconds of the clock that cookies have
    cdef int64_t ticks      # ns of the clock that rates have
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
    cdef unsigned int gather
    cdef int filled         # places of the batch that were used
    cdef Asked asked[BATCH + 1]     # of the batch, and of `respond`
    cdef uint8_t received[BATCH][LONGEST_QUERY + APART]
    cdef uint8_t sent[BATCH * LONGEST_ANSWER]       # one after the other: most are short, and so stay in few pages
    cdef uint8_t control[BATCH][CONTROL]
    cdef sockaddr_storage peers[BATCH]
    cdef iovec vectors[BATCH]
    cdef iovec outgoing[BATCH]
    cdef mmsghdr incoming[BATCH]
    cdef mmsghdr replies[BATCH]

    def __init__(self, find, bytes cookie_key, RateTable rates=None, *, unsigned int gather=0):
        if len(cookie_key) != 16:
            raise ValueError("the key of cookies has 16 bytes")
        if gather >= 1000000:
            raise ValueError("a server waits for less than a second")
        self.gather = gather
        self.lock = threading.Lock()
        self.kept = Kept()
        self.find = find
        self.filled = BATCH
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

    @property
    def find(self):
        """Where answers are looked up that are not kept."""
        return self._find

    @find.setter
    def find(self, find):
        self._find = find
        self.kept.clear()
        self.found = {}

    def forget_turns(self):
        """Answers that are given in turn have changed."""
        self.kept.forget_turns()
        self.found.clear()

    def forget(self):
        """Answers have changed."""
        self.kept.clear()
        self.found.clear()

    # ------------------------------------------------------------------------------------------------------- one query

    cdef void read(self, const uint8_t *p, size_t n, Asked *asked) noexcept:
        """Read a message, and have the processor fetch where its answer is kept."""
        cdef Query *q = &asked.query
        asked.code = read_query(p, n, q)
        if asked.code == NOERROR and q.name_len:
            asked.hash = self.kept.hash(p + HEAD, q.name_len, q.type, q.dnssec, asked.lower)
            self.kept.fetch_slot(asked.hash)

    cdef void clocks(self):
        self.now = <int64_t>time.time()
        self.ticks = <int64_t>time.monotonic_ns()

    cdef int respond_to(self, const uint8_t *p, Asked *asked, uint8_t *out, size_t most) except -1:
        """Write the response to a message that was read; returns its bytes, 0: none.

        most: bytes at `out`, 512 or more.
        """
        cdef Query *q = &asked.query
        cdef Client *client = &asked.client
        cdef int code = asked.code
        cdef Answer answer = None
        cdef const Said *said = NULL
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
            cookie = self.known(q, client)
        if code == NOERROR and q.name_len:
            said = self.kept.find(asked.hash, asked.lower, q.name_len)
            if said == NULL:
                try:
                    with self.lock:
                        answer, scope = self.look_up(asked)
                    said = answer.said()
                except Exception:
                    if self.throttle.ask("lookup", time.monotonic()) is not None:
                        _log.exception("cannot answer a query; the client gets SERVFAIL")
                    code = SERVFAIL
            if said != NULL:
                code = NOERROR if said.compact and not q.compact else said.code
        if not client.tcp:
            limit = LEAST_LIMIT
            if q.edns and q.size > LEAST_LIMIT:
                limit = min(self.limit, <size_t>q.size)
            if self.limited and cookie != 1 and not self.within(said, code, client):
                self.over += 1
                if self.over & 1:
                    self.dropped[1] += 1
                    return 0
                return self.write(p, q, code, NULL, scope, cookie, client, out, 0)
        return self.write(p, q, code, said, scope, cookie, client, out, limit)

    cdef tuple look_up(self, Asked *asked):
        """Find an answer and its scope, and keep it if it holds for others."""
        cdef Query *q = &asked.query
        cdef bytes name = (<char *>asked.lower)[:q.name_len]
        cdef Answer answer
        cdef int turns
        cdef list found
        cdef tuple key
        if self.subnets and q.subnet and q.source:
            answer, scope, turns = self._find(
                name, q.type, q.address[:4 if q.family == 1 else 16], q.source, bool(q.dnssec), False
            )
        else:
            answer, scope, turns = self._find(
                name, q.type, asked.client.address[:asked.client.length], 8 * asked.client.length, bool(q.dnssec), True
            )
        if turns == 1:
            self.kept.add(asked.hash, asked.lower, q.name_len, [answer])
        elif turns > 1:
            key = (name, q.type, q.dnssec)
            found = self.found.setdefault(key, [])
            found.append(answer)
            if len(found) >= turns:
                del self.found[key]
                if not self.kept.add(asked.hash, asked.lower, q.name_len, found):
                    self.kept.clear()       # turns that were replaced have used the room
        return answer, scope

    cdef int write(self, const uint8_t *p, Query *q, int code, const Said *said, int scope, int cookie,
                   const Client *client, uint8_t *out, size_t limit) except -1:
        """Write a response of at most `limit` bytes; what does not fit is left out, and TC set. 0: nothing but that."""
        cdef size_t at = HEAD, options, n
        cdef uint16_t flags = 0x8000 | (q.flags & 0x7900) | (q.flags & 0x0010)      # QR, opcode, RD, CD
        cdef int answers = 0, authority = 0
        cdef int i
        cdef const Patch *patches
        if q.name_len:
            memcpy(out + at, p + at, q.name_len + 4)
            at += q.name_len + 4
        options = self.options_size(q)
        if said == NULL and limit == 0:
            flags |= 0x0200
        elif said != NULL:
            if said.authoritative:
                flags |= 0x0400
            n = said.length
            if at + n + options > limit:
                flags |= 0x0200
            else:
                memcpy(out + at, records_of(said), n)
                patches = patches_of(said)
                for i in range(said.patches):
                    _put16(out + at + patches[i].offset, 0xC000 | ((HEAD + q.name_len + patches[i].distance) & 0x3FFF))
                at += n
                answers = said.answers
                authority = said.authority
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
                self.make_cookie(q.cookie, <uint32_t>self.now, client, out + at + 12)
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
        return self.now - <int64_t>_u32(q.cookie + 12) > COOKIE_FRESH

    cdef int known(self, Query *q, const Client *client) except -1:
        """Whether the client has shown the cookie that it was given: 1, 0 without one, 2 with a wrong one."""
        cdef uint8_t right[OWN_COOKIE]
        cdef int64_t age
        cdef int i, different = 0
        if q.cookie_len == 8:
            return 0
        age = self.now - <int64_t>_u32(q.cookie + 12)
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

    cdef bint within(self, const Said *said, int code, const Client *client) except -1:
        """Count a response; whether the client's network may have it."""
        cdef uint8_t text[16]
        cdef const char *secret = self.rates.secret
        cdef int kept = 3 if client.length == 4 else 7      # bytes of the network: /24, /56
        memset(text, 0, sizeof(text))
        memcpy(text, client.address, kept)
        text[8] = <uint8_t>client.length
        text[9] = <uint8_t>code
        _put32(text + 10, said.number if said != NULL else 0)
        return self.rates.take(siphash64(<const uint8_t *>secret, text, sizeof(text)), &self.rate,
                               self.ticks, 0) == 0

    # ----------------------------------------------------------------------------------------------------- the outside

    def respond(self, bytes message, bytes address, *, bint tcp=False):
        """The response to a message from an address of 4 or 16 bytes; None: there is none."""
        cdef Asked *asked = &self.asked[BATCH]
        cdef bytearray out
        cdef uint8_t *to
        cdef int n
        if len(address) != 4 and len(address) != 16:
            raise ValueError("an address has 4 or 16 bytes")
        memset(&asked.client, 0, sizeof(Client))
        asked.client.length = <uint8_t>len(address)
        memcpy(asked.client.address, <const char *>address, asked.client.length)
        asked.client.tcp = tcp
        self.clocks()
        out = bytearray(65535 if tcp else LONGEST_ANSWER)
        to = out
        self.read(message, len(message), asked)
        n = self.respond_to(message, asked, to, len(out))
        return bytes(out[:n]) if n else None

    cdef void ready_for_one(self, int i) noexcept nogil:
        """Make a place of the batch ready for another datagram."""
        cdef msghdr *head = &self.incoming[i].msg_hdr
        self.vectors[i].iov_base = self.received[i]
        self.vectors[i].iov_len = LONGEST_QUERY
        head.msg_name = &self.peers[i]
        head.msg_namelen = sizeof(sockaddr_storage)
        head.msg_iov = &self.vectors[i]
        head.msg_iovlen = 1
        head.msg_control = self.control[i]
        head.msg_controllen = CONTROL
        head.msg_flags = 0

    def serve_until(self, int wake, list sockets):
        """Answer the datagrams that come to sockets, by their descriptors, until there is something to read at `wake`.

        What waits at the sockets then is answered, too. Raises OSError.
        """
        cdef int i, count = <int>len(sockets)
        cdef bytearray room = bytearray((count + 1) * sizeof(pollfd))
        cdef uint8_t *begin = room
        cdef pollfd *places = <pollfd *>begin
        for i, fd in enumerate([wake, *sockets]):
            places[i].fd = fd
            places[i].events = POLLIN
        while True:
            with nogil:
                i = poll(places, count + 1, -1)
            if i < 0 and errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            if i < 0:
                continue
            for i in range(1, count + 1):
                if places[i].revents or places[0].revents:
                    self.serve(places[i].fd)
            if places[0].revents:
                return

    def serve(self, int fd):
        """Answer the datagrams that wait at a socket, in the order in which they came."""
        cdef int _, i, count
        for _ in range(TURNS):              # until there is none: asking once more costs less than another wakeup
            for i in range(self.filled):
                self.ready_for_one(i)
            self.filled = 0
            count = recvmmsg(fd, self.incoming, BATCH, MSG_DONTWAIT, NULL)
            if count <= 0:
                return
            self.filled = count
            self.send(fd, self.answer_all(count))
            if self.gather and BUSY <= count < BATCH:       # all that had come: the next ones come soon
                with nogil:
                    usleep(self.gather)

    cdef int answer_all(self, int count) except -1:
        """Answer the datagrams of a batch; returns how many responses there are."""
        cdef int i, n, ready = 0
        cdef msghdr *head
        cdef Asked *asked
        cdef uint8_t *out = self.sent
        self.clocks()
        for i in range(count):
            head = &self.incoming[i].msg_hdr
            asked = &self.asked[i]
            asked.code = SILENCE
            if not head.msg_flags & MSG_TRUNC and _client(head, &asked.client):
                self.read(self.received[i], self.incoming[i].msg_len, asked)
        for i in range(count):
            if self.asked[i].code == NOERROR:
                self.kept.fetch_entry(self.asked[i].hash)
        for i in range(count):
            asked = &self.asked[i]
            n = self.respond_to(self.received[i], asked, out, LONGEST_ANSWER)
            if n == 0:
                continue
            self.outgoing[ready].iov_base = out
            self.outgoing[ready].iov_len = n
            out += n
            self.replies[ready].msg_hdr = self.incoming[i].msg_hdr
            self.replies[ready].msg_hdr.msg_iov = &self.outgoing[ready]
            _from_where_it_came(&self.replies[ready].msg_hdr)
            ready += 1
        return ready

    def answer_batch(self, list messages):
        """Answer at most 64 messages as if they had come over UDP from 127.0.0.1, for the bench; returns how many."""
        cdef int i
        cdef sockaddr_in *peer
        cdef bytes message
        for i, message in enumerate(messages[:BATCH]):
            self.ready_for_one(i)
            memset(&self.peers[i], 0, sizeof(sockaddr_storage))
            peer = <sockaddr_in *>&self.peers[i]
            (<sockaddr_storage *>peer).ss_family = AF_INET
            peer.sin_port = 53
            peer.sin_addr.s_addr = 0x0100007F
            self.incoming[i].msg_len = <unsigned int>min(len(message), LONGEST_QUERY)
            memcpy(self.received[i], <const char *>message, self.incoming[i].msg_len)
            self.incoming[i].msg_hdr.msg_controllen = 0
        return self.answer_all(min(len(messages), BATCH))

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
    client.tcp = False
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
