"""Look-ups in the maps of a site file: the same for templates and expressions."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from gateway.config.map_table cimport Entry

from gateway.config.pattern import Pattern
from gateway.rules.gil import yield_gil


cdef class MapLookup:
    """default: the value where no key matches, or None."""

    def __init__(self, str name, MapTable table, *, bint regex, default):
        self.name = name
        self.table = table
        self.default = None if default is None else default.encode()
        self.patterns = None
        if regex:
            self.patterns = []
            for key, value in table.items():
                yield_gil()
                self.patterns.append((Pattern(key.decode("latin-1")).search, value))

    cdef bytes find(self, View v, bytes key):
        """The value for a key; None: there is none. Explain gets a note of it."""
        cdef bytes value = self._value(key)
        if v.notes is not None:
            shown = "no value" if value is None else value.decode("utf-8", "replace")
            v.notes.append(("map", f"map {self.name}: {key.decode('utf-8', 'replace')} gives {shown}"))
        return value

    cdef bytes _value(self, bytes key):
        cdef const Entry *entry
        if self.patterns is None:
            entry = self.table.find(PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key))
            return self.default if entry == NULL else self.table._text(entry.value, entry.value_n)
        for search, value in self.patterns:
            if search(key) is not None:
                return value
        return self.default
