"""Where the request is expected to be answered soonest: by learned service times, requests in flight and reports.

Each server's time to the answer of one more request is estimated from its answers so far and from what is in flight
there (estimate.pyx). Of the servers that would answer within NEAR of the soonest, the one with the fewest requests in
flight for its effective weight is picked: its weight as configured, corrected by its load reports. So among servers
that answer alike, weights and reports decide, and work is spread as by weighted least connections; among servers that
do not, the clock does. (Multiplying both, as peak EWMA does, counts every queue twice and leaves a quick server idle
while a slow one works; bench/balance.py has the figures.)

A server that nothing is known of counts as average, and what little is known of one moves it away from the average
little: otherwise chance would decide at the start, and those out of favour would have no answers to change it. One that
is out of favour is asked now and then how it is doing, with at most PROBE_SHARE of the requests.
"""

from libc.stdint cimport int64_t

from gateway.balance.estimate cimport look
from gateway.board cimport EJECTED_PROBED
from gateway.balance.policy cimport Member, Members, PickArgs, Policy, least_busy

cdef int64_t LOOK_AGAIN = 2_000_000         # ns that an estimate is worked with; in-flight counts are always read
cdef int64_t PROBE_AFTER = 250_000_000      # ns without a request, at least
cdef double PROBE_TIMES = 8.0               # of what the server needs for an answer
cdef double PROBE_SHARE = 0.005
cdef double DOUBT = 8.0                     # answers that speak for the average
cdef double NEAR = 1.2                      # times the soonest: as good as equal


cdef class Measured(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        cdef int i, k, known = 0, usable = members.sample(tier, &args.tried)
        cdef double mean = 0, soonest = -1
        cdef Member *m
        if usable == 0:
            return -1
        for k in range(usable):
            m = &members.member[members.candidate[k]]
            if args.now - m.looked > LOOK_AGAIN or m.looked == 0:
                m.estimate = look(members.board, m.slot, members.workers, args.now)
                m.looked = args.now
            m.cost = 0
            if m.estimate.answers > 0:
                m.cost = m.estimate.base + m.estimate.slope * m.busy
                mean += m.cost
                known += 1
        mean = mean / known if known else 1
        members.probes = min(1.0, members.probes + PROBE_SHARE)
        for k in range(usable):
            i = members.candidate[k]
            m = &members.member[i]
            m.cost = (m.estimate.answers * m.cost + DOUBT * mean) / (m.estimate.answers + DOUBT) * m.estimate.drift
            if members.board.server(m.slot).ejected == EJECTED_PROBED:
                return i                        # usable only while nothing is in flight there
            if members.probes >= 1.0 and overdue(members, i, m.cost, args.now):
                members.probes = 0
                return i
            if soonest < 0 or m.cost < soonest:
                soonest = m.cost
        keep_near(members, soonest * NEAR)
        return least_busy(members, True, True)


cdef bint overdue(Members members, int i, double time, int64_t now) noexcept nogil:
    """Whether it is time to ask a server that gets no requests how it is doing."""
    cdef Member *m = &members.member[i]
    cdef int64_t since
    cdef int worker
    if m.busy > 0 or (m.estimate.answers <= 0 and m.estimate.drift <= 1):
        return False
    since = m.picked
    for worker in range(members.workers):
        since = max(since, members.board.timing(m.slot, worker).observed)
    return now - since > max(PROBE_AFTER, <int64_t>(PROBE_TIMES * time * 1e9))


cdef void keep_near(Members members, double most) noexcept nogil:
    """Leave of the candidates those that cost `most` at most."""
    cdef int k, kept = 0
    for k in range(members.candidates):
        if members.member[members.candidate[k]].cost <= most:
            members.candidate[kept] = members.candidate[k]
            kept += 1
    members.candidates = kept
