"""A backend: its servers, the choice of a server for a request, and load and sessions in the servers' responses."""

from gateway.balance.hashing cimport hash_bytes, hash_field
from gateway.balance.policy cimport KEY_ADDRESS, KEY_NONE, KEY_URI
from gateway.wire.head cimport F_OTHER, same_any

from gateway.load.orca import load as _orca_load


cdef class Backend:
    """The servers of a backend with its policy.

    servers: Server objects in the order of the site file; members: the same for the policy.
    timeouts: (connect, response, idle, tunnel) in seconds. affinity: None, or an Affinity of `members`.
    orca: whether servers report their load in responses. traffic: the backend's row of the Board.
    """

    def __init__(self, str name, list servers, Members members, Policy policy, timeouts, affinity, Retries retries,
                 WaitQueue queue, ServerProtocol protocol, *, int traffic, bint orca=False):
        self.name = name
        self.log_name = name.encode()
        self.traffic = traffic
        self.servers = servers
        self.members = members
        self.policy = policy
        self.connect_ms, self.response_ms, self.idle_ms, self.tunnel_ms = (max(1, round(t * 1000)) for t in timeouts)
        self.retries = retries
        self.queue = queue
        self.overload = queue.overload
        self.protocol = protocol
        self.may_refuse = protocol.may_refuse
        self.affinity = affinity
        self.proxy_version = max([(<Server>server).proxy_version for server in servers], default=0)
        self.orca = orca
        self.reads_answers = orca or (affinity is not None and self.affinity.learns)

    def __repr__(self):
        return f"<Backend {self.name}>"

    cdef int look_at(self, PickArgs *args, const char *p, Head *h, View view, const char *asked, uint32_t n) except -2:
        """Fill in the policy's input from a request; return the server that affinity requires, or -1.

        asked: the head as received, with the marks that are no longer in the view's head.
        """
        cdef int belongs = -1
        if self.affinity is not None:
            self.members.now = args.now
            if self.affinity.learns:
                belongs = self.affinity.find_learned(asked, n)
            else:
                belongs = self.affinity.find(p, h, view.uri, view.uri_len, view.client)
        if self.policy.key_kind != KEY_NONE:
            args.key = self._key(p, h, view)
        return belongs

    cdef uint64_t _key(self, const char *p, Head *h, View view) except? 0:
        """The hash of the policy's key; 0: the request does not have the key."""
        if self.policy.key_kind == KEY_ADDRESS:
            return hash_bytes(view.client, <uint32_t>len(view.client)) if view.client else 0  # none: Unix socket
        if self.policy.key_kind == KEY_URI:
            return hash_bytes(view.uri, view.uri_len)
        return hash_field(p, h, self.policy.key_name)

    cdef int pick(self, PickArgs *args, int belongs) except -2:
        """Index of the server to use: the client's own server if it is usable, or else the policy's choice; or -1."""
        cdef int k
        if belongs >= 0:
            for k in range(args.tried.count):
                if args.tried.index[k] == belongs:
                    break
            else:
                if self.members.accepts(belongs):
                    return belongs
        return self.members.pick(self.policy, args)

    cdef bint moves(self, int chosen, int belongs, int status) noexcept:
        """Whether the session moves to the server that responds with `status`, so that the client must be told.

        A session leaves its server only for one that responds better.
        """
        return (self.affinity is not None and self.affinity.marks and chosen != belongs
                and (belongs < 0 or status < 500))

    cdef bytes read_answer(self, Server server, int chosen, int belongs, const char *p, Head *h, const char *asked,
                           uint32_t n, int64_t now):
        """Remove from a response head what the client must not see; return the lines that replace it."""
        cdef bint moved = self.moves(chosen, belongs, h.status)
        cdef bytes lines = b""
        cdef int i
        if self.orca:
            for i in range(h.count):
                if not is_load(p, h, i):
                    continue
                h.fields[i].drop = True
                load = _orca_load(p[h.fields[i].value:h.fields[i].value + h.fields[i].value_len])
                if load is not None:
                    server.board.hear(server.slot, server.worker, load, now)
        self.members.now = now
        if self.affinity is not None and self.affinity.learns:
            lines = self.affinity.learn(chosen, p, h, asked, n, moved)
        if moved:
            lines += self.affinity.mark(chosen, now)
        return lines

    cdef int index_of(self, Server server) noexcept:
        """The index of a server; -1: it does not belong to this backend."""
        cdef int k
        for k in range(self.members.count):
            if self.servers[k] is server:
                return k
        return -1

    cdef int counterpart(self, Backend before, int i) except -2:
        """The present index of server i of this backend in the previous snapshot; -1 for none."""
        cdef int k
        if i >= 0:
            for k in range(self.members.count):
                if (<Server>self.servers[k]).name == (<Server>before.servers[i]).name:
                    return k
        return -1

    def variety(self, settings, timeouts, affinity, Retries retries):
        """The same servers, policy and queue with other timeouts, affinity and retries, for routes that have them."""
        cdef Backend made = Backend(self.name, self.servers, self.members, self.policy, timeouts, affinity, retries,
                                    self.queue, self.protocol, traffic=self.traffic, orca=self.orca)
        made.settings = settings
        if self.varieties is None:
            self.varieties = {}
        self.varieties[settings] = made
        return made

    cdef Backend like(self, Backend other):
        """The one with the settings of another, or, without one, this one."""
        if other.settings is None or self.varieties is None:
            return self
        return self.varieties.get(other.settings, self)

    def adopt(self, Backend before):
        """Take over the waiting work and the retry budget from the same backend in the previous snapshot."""
        self.retries.adopt(before.retries)
        for settings, made in (self.varieties or {}).items():
            made.retries.adopt((before.varieties or {}).get(settings, before).retries)
        self.queue.adopt(before.queue, lambda work: work.moved(self))


cdef class ServerProtocol:
    cdef object open(self, object conn):
        """Create the Upstream for a new connection (ServerConn), and let it handle the connection."""
        raise NotImplementedError


cdef bint is_load(const char *p, Head *h, int i) noexcept nogil:
    """Whether field i is ORCA's endpoint-load-metrics, or endpoint-load-metrics-bin."""
    cdef uint32_t n = h.fields[i].name_len
    return (h.fields[i].known == F_OTHER and (n == 21 or n == 25)
            and same_any(p + h.fields[i].name, b"endpoint-load-metrics-bin", n))
