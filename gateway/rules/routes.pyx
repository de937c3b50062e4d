"""The route list: routes are tried in the order of the site file, and the first that returns a response or a backend
ends the search. Routes without a final action change the request, and the search continues after them.

The list is compiled once per snapshot, so that a request meets only routes whose host and path match: a hash of host
names leads to a radix tree of paths, stored in arrays, whose nodes hold the numbers of their entries in order. A lookup
merges the lists along the trees of the request's host, of the wildcards above it, and of any host; so ten thousand
routes cost the same as ten. A regular expression is in the tree under its literal prefix.
"""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

import array
from collections import deque

from gateway.rules.actions cimport Step
from gateway.rules.conditions cimport Condition
from gateway.rules.pattern_matcher cimport PatternMatcher

from gateway.rules.gil import yield_gil, sort

SCHEMES = {None: 0, "http": 1, "https": 2}

cdef enum:
    ENTRY = sizeof(Entry) // sizeof(int32_t)
    NODE = sizeof(Node) // sizeof(int32_t)
    MAX_HOST = 264          # bytes; the head parser enforces it
    REGEX_COST = 5          # see Condition.cost
    BREATH = 64             # steps of compiling a table between two GIL yields


cdef class Route:
    """One entry of the list.

    scheme: None, "http" or "https". hosts: names, or "*.suffix". paths: (text, "prefix", "exact" or "regex").
    action: the result that ends the search, or None. conditions: all must hold; steps: applied if they do.
    """

    def __init__(self, int index, scheme, hosts, paths, action, conditions=(), steps=()):
        self.index = index
        self.scheme = SCHEMES[scheme]
        self.hosts = tuple([host.lower() for host in hosts])
        self.paths = tuple(paths)
        self.action = action
        self.steps = tuple(steps)
        self.cheap = self.dear = ()
        if conditions:
            ordered = sorted(conditions, key=_cost)
            self.cheap = tuple([item for item in ordered if item.cost < REGEX_COST])
            self.dear = tuple([item for item in ordered if item.cost >= REGEX_COST])
        self.matchers = tuple([PatternMatcher(text) if kind == "regex" else None for text, kind in self.paths])

    cdef bint holds(self, View v, Entry *e, int alternative) except -1:
        """Whether the route matches, given that host and path (up to a regular expression) match."""
        cdef Condition condition
        if self.scheme and self.scheme != v.scheme:
            return False
        if v.groups is not None:
            v.groups = None
        for condition in self.cheap:
            if not condition.holds(v):
                return False
        if e.regex and not (<PatternMatcher>self.matchers[alternative]).find(v.uri, v.path_len, v):
            return False
        for condition in self.dear:
            if not condition.holds(v):
                return False
        return True

    cdef str why_not(self, View v, int *length):
        """The reason why the route does not match, in readable form; None: it matches. Does not use the index.

        `length` receives the number of path bytes that the route's prefix covers.
        """
        cdef Condition condition
        cdef bytes host = _bare(v.host().lower())
        if self.scheme and self.scheme != v.scheme:
            return f"scheme is {'https' if v.scheme == 2 else 'http'}"
        if self.hosts and not any([_host_holds(wanted, host.decode("latin-1")) for wanted in self.hosts]):
            return f"host is {host.decode('latin-1')}"
        why = None
        for alternative in range(len(self.paths)) if self.paths else (-1,):
            v.groups = None
            why = self._path_why_not(v, alternative, length)
            if why is not None:
                continue
            for condition in self.cheap + self.dear:
                if not condition.holds(v):
                    why = f"{condition.text}: {condition.seen(v)}"
                    break
            if why is None:
                return None
        return why

    cdef str _path_why_not(self, View v, int alternative, int *length):
        cdef bytes path = v.path()
        length[0] = 0
        if alternative < 0:
            return None
        text, kind = self.paths[alternative]
        wanted = text.encode("latin-1")
        shown = path.decode("latin-1")
        if kind == "regex":
            if (<PatternMatcher>self.matchers[alternative]).find(v.uri, v.path_len, v):
                return None
            return f"path {shown} does not match {text}"
        if kind == "exact":
            length[0] = len(wanted)
            return None if path == wanted else f"path is {shown}"
        length[0] = len(wanted)
        return None if path.startswith(wanted) else f"path is {shown}"


def _cost(condition):
    return condition.cost


def _bare(name):
    """A host name without the optional trailing dot."""
    return name[:len(name) - 1] if name.endswith(b".") else name


def _host_holds(wanted, host):
    return host.endswith(wanted[1:]) and host != wanted[1:] if wanted.startswith("*.") else host == wanted


cdef class RouteTable:
    """All routes of a snapshot, in order. before: steps for every request, none of which ends the search."""

    def __cinit__(self, routes, before=()):
        self.routes = list(routes)
        self.before = tuple(before) or None
        self.capacity = 16
        self.cursors = <Cursor *>malloc(self.capacity * sizeof(Cursor))
        if self.cursors == NULL:
            raise MemoryError
        self._compile(_Forest(self.routes))

    def __dealloc__(self):
        free(self.entries)
        free(self.first_of)
        free(self.nodes)
        free(self.ids)
        free(self.labels)
        free(self.slots)
        free(self.cursors)

    def _compile(self, _Forest forest):
        """Copy the trees into arrays."""
        cdef uint32_t size = 4, at
        cdef bytes text = bytes(forest.labels)
        cdef bytes name
        while size < 2 * len(forest.roots):
            size *= 2
        self.entries = <Entry *>_copied(forest.entries)
        self.first_of = <int32_t *>_copied(forest.first_of)
        self.nodes = <Node *>_copied(forest.nodes)
        self.ids = <int32_t *>_copied(forest.ids)
        self.labels = <char *>malloc(len(text) + 1)
        self.slots = <Slot *>calloc(size, sizeof(Slot))
        if self.labels == NULL or self.slots == NULL:
            raise MemoryError
        memcpy(self.labels, PyBytes_AS_STRING(text), len(text))
        self.any_host = forest.roots.get(b"", (-1, 0, 0))[0]
        for name, (root, start, length) in forest.roots.items():
            if not name:
                continue
            self.mask = size - 1
            self.wild = self.wild or name.startswith(b".")
            at = _hash(PyBytes_AS_STRING(name), <uint32_t>len(name)) & self.mask
            while self.slots[at].length:
                at = (at + 1) & self.mask
            self.slots[at].name = start
            self.slots[at].length = length
            self.slots[at].root = root

    cdef int32_t _root(self, const char *name, uint32_t n) noexcept nogil:
        """The tree of a host name, or of ".suffix"; -1: none."""
        cdef uint32_t at = _hash(name, n) & self.mask
        cdef Slot *slot
        while True:
            slot = &self.slots[at]
            if slot.length == 0:
                return -1
            if <uint32_t>slot.length == n and memcmp(self.labels + slot.name, name, n) == 0:
                return slot.root
            at = (at + 1) & self.mask

    cdef int _add(self, int count, int32_t at, int32_t n, int32_t first) except -1:
        """Add a cursor on the entries from number `first` on, if there are any; return the number of cursors."""
        cdef int32_t end = at + n, high = at + n, middle
        cdef void *grown
        if n == 0 or self.ids[end - 1] < first:
            return count
        while at < high:
            middle = (at + high) >> 1
            if self.ids[middle] < first:
                at = middle + 1
            else:
                high = middle
        if count == self.capacity:
            grown = realloc(self.cursors, 2 * self.capacity * sizeof(Cursor))
            if grown == NULL:
                raise MemoryError
            self.cursors = <Cursor *>grown
            self.capacity *= 2
        self.cursors[count].at = at
        self.cursors[count].end = end
        return count + 1

    cdef int _descend(self, int32_t root, const char *path, uint32_t n, int count, int32_t first) except -1:
        """Add cursors on the entries of a tree whose prefix or exact path matches."""
        cdef uint32_t at = 0
        cdef int32_t low, high, middle, child
        cdef int c
        cdef Node *node = &self.nodes[root]
        while True:
            if node.prefix_count:
                count = self._add(count, node.prefixes, node.prefix_count, first)
            if at == n:
                if node.exact_count:
                    count = self._add(count, node.exacts, node.exact_count, first)
                return count
            low = 0
            high = node.children
            child = node.child
            while low < high:
                middle = (low + high) >> 1
                c = <uint8_t>self.labels[self.nodes[child + middle].label]
                if c < <uint8_t>path[at]:
                    low = middle + 1
                else:
                    high = middle
            if low == node.children:
                return count
            node = &self.nodes[child + low]
            if (<uint32_t>node.label_len > n - at
                    or memcmp(self.labels + node.label, path + at, node.label_len) != 0):
                return count
            at += node.label_len

    cdef int _collect(self, View v, int32_t first) except -1:
        """Add cursors on all entries from number `first` on whose host and path match; return how many."""
        cdef char name[MAX_HOST]
        cdef const char *host = v.p + v.h.host
        cdef uint32_t n = v.h.host_len, i
        cdef int count = 0
        cdef int32_t root
        if self.any_host >= 0:
            count = self._descend(self.any_host, v.uri, v.path_len, 0, first)
        if self.mask and 0 < n <= MAX_HOST:
            for i in range(n):
                name[i] = host[i] + 32 if c'A' <= host[i] <= c'Z' else host[i]
            if name[n - 1] == c'.':
                n -= 1              # fully qualified: the same host
            root = self._root(name, n)
            if root >= 0:
                count = self._descend(root, v.uri, v.path_len, count, first)
            if self.wild:
                for i in range(1, n):
                    if name[i] == c'.':
                        root = self._root(name + i, n - i)
                        if root >= 0:
                            count = self._descend(root, v.uri, v.path_len, count, first)
        return count

    cdef int prepare(self, View v, dict trace) except -1:
        """Run the steps that precede the first route."""
        cdef Step step
        if self.before is not None:
            for step in self.before:
                if trace is not None:
                    step.explain(v, trace)
                step.run(v)
            v.changed = False
        return 0

    cdef object decide(self, View v, dict trace):
        """The result of the routes for a request: a route's action, a Respond, or None: no route ends the search.

        trace: None, or a dict that gets under "routes" one tuple for each route that the search examines, in order: the
        route, the reason why it does not match or None, the result with which it ends the search or None, path and
        query then.
        """
        cdef int32_t first = 0, number
        cdef int count, i, least, looked = 0
        cdef Cursor *cursors
        cdef Entry *e
        cdef Route route
        cdef Step step
        cdef object outcome
        if trace is not None:
            trace["routes"] = []
        if self.before is not None:
            self.prepare(v, trace)
        while True:
            count = self._collect(v, first)
            while True:
                cursors = self.cursors
                least = -1
                number = 0
                for i in range(count):
                    if cursors[i].at < cursors[i].end and (least < 0 or self.ids[cursors[i].at] < number):
                        least = i
                        number = self.ids[cursors[i].at]
                if least < 0:
                    if trace is not None:
                        self._passed_over(v, trace, looked, len(self.routes))
                    return None
                cursors[least].at += 1
                if number < first:
                    continue            # another path of a route that was already tried
                e = &self.entries[number]
                route = <Route>self.routes[e.route]
                if trace is not None and looked < e.route:
                    self._passed_over(v, trace, looked, e.route)
                    looked = e.route
                if not route.holds(v, e, number - self.first_of[e.route]):
                    continue
                v.matched = e.length
                outcome = None
                for step in route.steps:
                    outcome = step.run(v)
                    if outcome is not None:
                        break
                if outcome is None:
                    outcome = route.action
                if trace is not None:
                    looked = e.route + 1
                    trace["routes"].append((route, None, outcome, v.uri_now))
                if outcome is not None:
                    return outcome
                first = self.first_of[e.route + 1]
                if v.changed:
                    v.changed = False
                    break               # continue with the rest of the list for the changed path

    cdef int _passed_over(self, View v, dict trace, int start, int end) except -1:
        """Add to the trace why the routes from `start` up to `end` do not match."""
        cdef Route route
        cdef int i, length
        for i in range(start, end):
            route = <Route>self.routes[i]
            why = route.why_not(v, &length)
            if why is None:
                raise RuntimeError(f"routes[{route.index}] was passed over, but it matches")
            trace["routes"].append((route, why, None, v.uri_now))
        return 0

    def find(self, View v):
        """The same as `decide`; for tests."""
        return self.decide(v, None)

    def explain(self, View v):
        """The result of `decide`, and its trace."""
        trace = {}
        return self.decide(v, trace), trace


cdef uint32_t _hash(const char *p, uint32_t n) noexcept nogil:
    """FNV-1a. The names come from the site file, so clients cannot choose colliding ones."""
    cdef uint32_t h = 2166136261U, i
    for i in range(n):
        h = (h ^ <uint8_t>p[i]) * 16777619U
    return h


cdef void *_copied(array.array numbers) except NULL:
    """A copy of the numbers in newly allocated memory."""
    cdef size_t n = len(numbers) * sizeof(int32_t)
    cdef void *copy = malloc(n + 1)
    if copy == NULL:
        raise MemoryError
    if n > 0:    # an empty array has no buffer, and memcpy must not get NULL
        memcpy(copy, numbers.data.as_voidptr, n)
    return copy


cdef class _Forest:
    """The trees while the table is built. Numbers, not objects: freeing many objects would be one long step."""
    cdef array.array entries            # the fields of Entry, one after the other
    cdef array.array first_of
    cdef array.array nodes              # the fields of Node
    cdef array.array ids
    cdef object labels
    cdef dict roots                     # host, ".suffix" or "" -> (root, where the name is in labels, its length)
    cdef Py_ssize_t steps

    def __init__(self, routes):
        cdef Route route
        self.entries, self.first_of, self.nodes, self.ids = [array.array("i") for _ in range(4)]
        self.labels = bytearray()
        self.roots = {}
        trees = {}
        for at, route in enumerate(routes):
            self._step()
            self.first_of.append(len(self.entries) // ENTRY)
            keys = [host[1:] if host.startswith("*.") else host for host in route.hosts] or [""]
            for (text, kind), matcher in zip(route.paths or (("", "prefix"),), route.matchers or (None,)):
                exact = kind == "exact"
                where = matcher.pattern.prefix if matcher is not None else text.encode("latin-1")
                item = (where, len(self.entries) // ENTRY, exact)
                self.entries.extend((at, 0 if matcher is not None else len(where), exact, matcher is not None))
                for key in keys:
                    trees.setdefault(key.encode(), []).append(item)
        self.first_of.append(len(self.entries) // ENTRY)
        for key, items in trees.items():
            start = len(self.labels)
            self.labels += key
            self.roots[key] = (self._plant(sort(items)), start, len(key))

    cdef int _step(self) except -1:
        self.steps += 1
        if self.steps % BREATH == 0:
            yield_gil()
        return 0

    cdef int _node(self, int label, int length):
        """The number of a new node."""
        self.nodes.extend((label, length, 0, 0, 0, 0, 0, 0))
        return len(self.nodes) // NODE - 1

    def _plant(self, list items):
        """A tree of (path, number of its entry, exact), sorted; its root."""
        cdef Node *node
        cdef Py_ssize_t start, end, stop, depth, length, children
        root = self._node(0, 0)
        waiting = deque([(root, 0, len(items), 0)])
        while waiting:
            number, start, end, depth = waiting.popleft()
            prefixes, exacts = [], []
            while start < end and len(items[start][0]) == depth:    # sorted: paths that end here come first
                self._step()
                _, entry, exact = items[start]
                (exacts if exact else prefixes).append(entry)
                start += 1
            node = self._at(number)
            node.prefixes, node.prefix_count = self._listed(prefixes)
            node.exacts, node.exact_count = self._listed(exacts)
            node.child = len(self.nodes) // NODE                    # children are adjacent
            children = 0
            while start < end:
                self._step()
                stop = _branch(items, start, end, depth)
                length = _common(items[start][0], items[stop - 1][0], depth + 1)
                child = self._node(len(self.labels), length - depth)
                self.labels += items[start][0][depth:length]
                waiting.append((child, start, stop, length))
                children += 1
                start = stop
            self._at(number).children = children
        return root

    cdef Node *_at(self, int number):
        """The address of a node; valid until the next node is made."""
        return <Node *>self.nodes.data.as_ints + number

    def _listed(self, entries):
        """The position of a list of entries in `ids`, and its length."""
        entries = sorted(set(entries))
        self.ids.extend(entries)
        return len(self.ids) - len(entries), len(entries)


cdef Py_ssize_t _branch(list items, Py_ssize_t start, Py_ssize_t end, Py_ssize_t depth) except -1:
    """The end in `items` of the paths that share the first one's byte at `depth`; they are sorted, and longer."""
    cdef Py_ssize_t middle
    wanted = items[start][0][depth]
    while start < end:
        middle = (start + end) >> 1
        if items[middle][0][depth] == wanted:
            start = middle + 1
        else:
            end = middle
    return start


cdef Py_ssize_t _common(bytes one, bytes other, Py_ssize_t known) except -1:
    """The length of the common prefix; the first `known` bytes are known to be equal."""
    while known < len(one) and known < len(other) and one[known] == other[known]:
        known += 1
    return known
