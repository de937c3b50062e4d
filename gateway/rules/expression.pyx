"""Compiled expressions: a tree of small objects, each of which evaluates one node for a request.

The types were checked before, so the tree does not check them. An operand without a value (a missing header, a division
by zero, the load of a backend without reports) is Unknown. As in CEL, && and || ignore an operand that is Unknown if
the other one decides; a condition that is Unknown as a whole does not hold.
"""

import datetime
import ipaddress
from zoneinfo import ZoneInfo

from gateway.rules.conditions cimport Condition
from gateway.rules.map_lookup cimport MapLookup
from gateway.rules.view cimport IN_COOKIE, IN_HEADER, IN_QUERY, View

from gateway.config.expression import VARIABLES, moment
from gateway.config.pattern import Pattern

LARGEST = 0x7FFFFFFFFFFFFFFF         # of an int
UTC = datetime.timezone.utc
MAPS = {"headers": IN_HEADER, "cookies": IN_COOKIE, "query": IN_QUERY}


class Unknown(Exception):
    """The expression has no value; the message gives the reason."""


cdef class When(Condition):
    """maps: the MapLookups by name."""

    def __init__(self, str text, node, maps):
        self.text = "when " + text
        self.cost = 8
        self.expr = compiled(node, maps)

    cdef bint holds(self, View v) except -1:
        try:
            return self.expr.value(v)
        except Unknown:
            return False

    cdef str seen(self, View v):
        try:
            return "true" if self.expr.value(v) else "false"
        except Unknown as error:
            return f"unknown: {error}"


def evaluate(node, View v):
    """Evaluate a typed expression for a request. Raises Unknown. For tests and explain."""
    return compiled(node, {}).value(v)


cdef class Expr:
    cdef object value(self, View v):
        raise NotImplementedError


cdef class Literal(Expr):
    cdef object it

    def __init__(self, it):
        self.it = it

    cdef object value(self, View v):
        return self.it


cdef class Variable(Expr):
    cdef int which

    def __init__(self, name):
        self.which = list(VARIABLES).index(name)

    cdef object value(self, View v):
        if self.which == 0:
            return "https" if v.scheme == 2 else "http"
        if self.which == 1:
            return v.p[:v.h.method_len].decode("latin-1")
        if self.which == 2:
            return v.host().decode("latin-1").lower()
        if self.which == 3:
            return v.path().decode("latin-1")
        if self.which == 4:
            return v.uri[:v.uri_len].decode("latin-1")
        if self.which == 8:
            return v.client.decode("latin-1")
        if self.which == 9:
            return v.klass or ""
        if self.which == 10:
            return v.clock()
        if self.which == 11:
            return (v.user or b"").decode("utf-8", "surrogateescape")
        raise Unknown("a map has no value of its own")


cdef class Map(Expr):
    """headers, cookies, query: looked up by key, never enumerated, except by size()."""
    cdef int where

    def __init__(self, name):
        self.where = MAPS[name]

    cdef list values(self, View v, str key):
        cdef bytes name = key.encode("utf-8", "surrogateescape")
        return v.values(self.where, name.lower() if self.where == IN_HEADER else name)


cdef class Key(Expr):
    """One value of a map; the first, if there are several."""
    cdef Map map
    cdef Expr key

    def __init__(self, map, key):
        self.map = map
        self.key = key

    cdef object value(self, View v):
        key = self.key.value(v)
        values = self.map.values(v, key)
        if not values:
            raise Unknown(f"there is no {key}")
        return values[0].decode("utf-8", "surrogateescape")


cdef class Has(Expr):
    cdef Map map
    cdef Expr key

    def __init__(self, map, key):
        self.map = map
        self.key = key

    cdef object value(self, View v):
        return bool(self.map.values(v, self.key.value(v)))


cdef class List(Expr):
    cdef tuple items

    def __init__(self, items):
        self.items = items

    cdef object value(self, View v):
        cdef Expr item
        return [item.value(v) for item in self.items]


cdef class Choice(Expr):
    cdef Expr test, yes, no

    def __init__(self, test, yes, no):
        self.test = test
        self.yes = yes
        self.no = no

    cdef object value(self, View v):
        return self.yes.value(v) if self.test.value(v) else self.no.value(v)


cdef class Logic(Expr):
    """&& (false decides) and || (true decides); an operand that decides overrides one that is Unknown."""
    cdef bint decides
    cdef Expr left, right

    def __init__(self, decides, left, right):
        self.decides = decides
        self.left = left
        self.right = right

    cdef object value(self, View v):
        try:
            if bool(self.left.value(v)) is self.decides:
                return self.decides
        except Unknown:
            if bool(self.right.value(v)) is self.decides:
                return self.decides
            raise
        return self.right.value(v)


cdef class Operation(Expr):
    """An operator, function or method without state: a Python callable on the values of its arguments."""
    cdef object what
    cdef tuple args

    def __init__(self, what, args):
        self.what = what
        self.args = args

    cdef object value(self, View v):
        cdef Expr arg
        if len(self.args) == 1:
            arg = self.args[0]
            return self.what(arg.value(v))
        return self.what((<Expr>self.args[0]).value(v), (<Expr>self.args[1]).value(v))


cdef class Compare(Expr):
    """The six comparisons, as bits: less, equal, greater."""
    cdef int bits
    cdef Expr left, right

    def __init__(self, bits, left, right):
        self.bits = bits
        self.left = left
        self.right = right

    cdef object value(self, View v):
        left = self.left.value(v)
        right = self.right.value(v)
        if left == right:
            return (self.bits & 2) != 0
        if self.bits == 5:
            return True
        if self.bits == 2:
            return False
        return (self.bits & 1) != 0 if left < right else (self.bits & 4) != 0


cdef class Load(Expr):
    cdef str backend

    def __init__(self, backend):
        self.backend = backend

    cdef object value(self, View v):
        load = v.resources.load(self.backend)
        if load is None:
            raise Unknown(f"the load of {self.backend} is unknown")
        return load


cdef class Up(Expr):
    cdef str backend

    def __init__(self, backend):
        self.backend = backend

    cdef object value(self, View v):
        return v.resources.up(self.backend)


cdef class Sessions(Expr):
    cdef object value(self, View v):
        return v.resources.sessions()


cdef class SiteLoad(Expr):
    cdef str site

    def __init__(self, site):
        self.site = site

    cdef object value(self, View v):
        load = v.resources.site_load(self.site)
        if load is None:
            raise Unknown(f"the load of site {self.site} is unknown")
        return load


cdef class InMap(Expr):
    cdef MapLookup lookup
    cdef Expr key

    def __init__(self, lookup, key):
        self.lookup = lookup
        self.key = key

    cdef object value(self, View v):
        key = self.key.value(v)
        found = self.lookup.find(v, key.encode("utf-8", "surrogateescape"))
        if found is None:
            raise Unknown(f"map {self.lookup.name} has no {key}")
        return found.decode("utf-8", "surrogateescape")


cdef class InNetwork(Expr):
    """The client's own address is compared in the same way as by a route's `source`."""
    cdef Expr address
    cdef object network

    def __init__(self, address, network):
        self.address = address
        self.network = ipaddress.ip_network(network)

    cdef object value(self, View v):
        text = self.address.value(v)
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise Unknown(f"{text} is not an address") from None
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address in self.network


def _word(value):
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Unknown("the number has more than 64 bits")
    return value


def _add(left, right):
    return _word(left + right)


def _subtract(left, right):
    return _word(left - right)


def _multiply(left, right):
    return _word(left * right)


def _divide(left, right):
    if isinstance(left, float):
        if right == 0:
            raise Unknown("division by zero")
        return left / right
    if right == 0:
        raise Unknown("division by zero")
    # Rounded towards zero, as CEL requires.
    return _word(abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1))


def _modulo(left, right):
    if right == 0:
        raise Unknown("division by zero")
    return (abs(left) % abs(right)) * (1 if left >= 0 else -1)


def _int(value):
    try:
        return _word(int(value))
    except (ValueError, OverflowError):
        raise Unknown(f"{value} is not an int") from None


def _double(value):
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise Unknown(f"{value} is not a double") from None


def _string(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lower(value):
    return "".join([char.lower() if char.isascii() else char for char in value])


def _upper(value):
    return "".join([char.upper() if char.isascii() else char for char in value])


def _contains(item, items):
    return item in items


PLAIN = {
    "!": lambda value: not value, "neg": lambda value: _word(-value), "+": _add, "-": _subtract, "*": _multiply,
    "/": _divide, "%": _modulo, "int": _int, "double": _double, "string": _string, "size": len,
    "startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__,
    "lowerAscii": _lower, "upperAscii": _upper,
}
COMPARED = {"<": 1, "==": 2, "<=": 3, ">": 4, "!=": 5, ">=": 6}
PARTS = {
    "getFullYear": lambda when: when.year, "getMonth": lambda when: when.month - 1,
    "getDate": lambda when: when.day, "getDayOfMonth": lambda when: when.day - 1,
    "getDayOfWeek": lambda when: when.isoweekday() % 7, "getDayOfYear": lambda when: when.timetuple().tm_yday - 1,
    "getHours": lambda when: when.hour, "getMinutes": lambda when: when.minute, "getSeconds": lambda when: when.second,
}
"""Fields of a timestamp; CEL counts months, days of the month (except getDate), of the week and of the year from 0."""


cdef Expr compiled(node, maps):
    """Compile a node of gateway.config.expression."""
    op = node.op
    args = node.args
    if op == "literal":
        return Literal(args[0])
    if op == "var":
        return Map(args[0]) if args[0] in MAPS else Variable(args[0])
    if op == "load":
        return Load(args[0].args[0])
    if op == "up":
        return Up(args[0].args[0])
    if op == "site_load":
        return SiteLoad(args[0].args[0])
    if op == "map":
        return InMap(maps[args[0].args[0]], compiled(args[1], maps))
    if op == "sessions":
        return Sessions()
    if op == "timestamp":
        return Literal(moment(args[0].args[0]))
    if op == "in_network":
        return InNetwork(compiled(args[0], maps), args[1].args[0])
    if op == "matches":
        search = Pattern(args[1].args[0].encode().decode("latin-1")).search
        text = compiled(args[0], maps)
        return Operation(lambda value: search(value.encode("utf-8", "surrogateescape")) is not None, (text,))
    if op in PARTS:
        zone = ZoneInfo(args[1].args[0]) if len(args) > 1 else UTC
        part = PARTS[op]
        return Operation(lambda when: part(datetime.datetime.fromtimestamp(when, zone)), (compiled(args[0], maps),))
    made = tuple([compiled(arg, maps) for arg in args])
    if op == "key":
        return Key(*made)
    if op == "has" or (op == "in" and isinstance(made[1], Map)):
        return Has(*(made if op == "has" else (made[1], made[0])))
    if op == "in":
        return Operation(_contains, made)
    if op == "index":
        return Operation(_item, made)
    if op == "list":
        return List(made)
    if op == "?:":
        return Choice(*made)
    if op == "&&" or op == "||":
        return Logic(op == "||", *made)
    if op in COMPARED:
        return Compare(COMPARED[op], *made)
    return Operation(PLAIN[op], made)


def _item(items, index):
    if not 0 <= index < len(items):
        raise Unknown(f"there is no item {index}")
    return items[index]
