"""State machines as tables: of a transaction, of a client's connection, of a connection to a server.

A state is entered by one function of its owner, which asks the table; so an edge that is not in it is an error where it
is taken, and tests can see that every edge there is has been taken.
"""


cdef dict edges_of(Machine *m, names):
    """{(state, next state): how often that was taken in this process}."""
    cdef int a, b
    found = {}
    for a, name in enumerate(names):
        for b, following in enumerate(names):
            if m.next[a] >> b & 1:
                found[name, following] = m.walked[a][b]
    return found
