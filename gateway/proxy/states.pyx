"""State machines as tables: of a transaction, of a client's connection, of a connection to a server.

One function of the owner enters a state and checks the table; so a transition that is not in it raises an error at
once, and tests can check that every possible transition has been made.
"""


cdef dict edges_of(Machine *m, names):
    """{(state, next state): number of transitions in this process}."""
    cdef int a, b
    found = {}
    for a, name in enumerate(names):
        for b, following in enumerate(names):
            if m.next[a] >> b & 1:
                found[name, following] = m.walked[a][b]
    return found
