"""Picks the server with the shortest expected response time: by learned times, requests in flight and load reports.

For each server, the time of one more request is estimated from its earlier responses and its requests in flight
(estimate.pyx). Among the servers within NEAR of the shortest time, the policy picks the one with the fewest requests in
flight for its effective weight: the configured weight, corrected by its load reports. So among equally fast servers,
weights and reports decide, and requests are spread as by weighted least connections; among servers of different speed,
the response time decides. (Multiplying both, as peak EWMA does, counts every queue twice and leaves a fast server idle
while a slow one works; bench/balance.py has the figures.)

Times scatter, so at light load the server whose first responses were fast by chance would get every request. An idle
server that seems slower is therefore skipped only with the probability that it is slower: this is drawn, as in Thompson
sampling (Biometrika 1933), with exp(-evidence). The evidence is that of a normal distribution for the difference of two
estimates, less the expected effect of chance on the best of several; or the surprise of its last responses
(estimate.pyx).

A server without data counts as average, and little data moves it only a little away from the average. A server that is
not picked is probed now and then, with at most PROBE_SHARE of the requests.
"""

from libc.math cimport exp, log
from libc.stdint cimport int64_t

from gateway.balance.estimate cimport SLOW, look
from gateway.board cimport EJECTED_PROBED
from gateway.balance.policy cimport Member, Members, PickArgs, Policy, least_busy

cdef int64_t LOOK_AGAIN = 2_000_000         # ns for which an estimate is reused; in-flight counts are always read
cdef int64_t PROBE_AFTER = 250_000_000      # ns without a request, at least
cdef double PROBE_TIMES = 8.0               # times the server's response time
cdef double PROBE_SHARE = 0.005
cdef double DOUBT = 4.0                     # weight of the average, in responses
cdef double NEAR = 1.2                      # times the shortest: considered equal
cdef double CHANCE = 2.0                    # evidence that chance gives to one of two equal servers sooner or later
cdef double SURE = 12.0                     # evidence beyond which there is no draw
cdef double CHANGED_ODDS = 35.0             # odds to one against a server having just become slow


cdef class Measured(Policy):
    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        cdef int i, k, known = 0, soonest = -1, usable = members.sample(tier, &args.tried)
        cdef double mean = 0
        cdef Member *m
        if usable == 0:
            return -1
        members.variance = 0
        for k in range(usable):
            m = &members.member[members.candidate[k]]
            if args.now - m.looked > LOOK_AGAIN or m.looked == 0:
                m.estimate = look(members.board, m.slot, members.workers, args.now)
                m.looked = args.now
            m.cost = 0
            if m.estimate.answers > 0:
                m.cost = m.estimate.base + m.estimate.slope * m.busy
                mean += m.cost
                members.variance = members.variance + m.estimate.variance
                known += 1
        members.variance = members.variance / known if known else 1
        mean = mean / known if known else 1
        members.probes = min(1.0, members.probes + PROBE_SHARE)
        for k in range(usable):
            i = members.candidate[k]
            m = &members.member[i]
            m.usual = (m.estimate.answers * m.cost + DOUBT * mean) / (m.estimate.answers + DOUBT)
            m.cost = m.usual * m.estimate.drift
            if m.busy == 0 and m.estimate.surprise > 0:
                m.cost = max(m.cost, m.usual * slower(m.estimate.surprise))
            if members.board.server(m.slot).ejected == EJECTED_PROBED:
                return i                        # usable only while it has no requests in flight
            if members.probes >= 1.0 and overdue(members, i, m.cost, args.now):
                members.probes = 0
                return i
            if soonest < 0 or m.cost < members.member[soonest].cost:
                soonest = i
        keep_near(members, soonest)
        return least_busy(members, True, True)


cdef bint overdue(Members members, int i, double time, int64_t now) noexcept nogil:
    """Whether it is time to probe a server that gets no requests."""
    cdef Member *m = &members.member[i]
    cdef int64_t since
    cdef int worker
    if m.busy > 0 or (m.estimate.answers <= 0 and m.estimate.drift <= 1):
        return False
    since = m.picked
    for worker in range(members.workers):
        since = max(since, members.board.timing(m.slot, worker).observed)
    return now - since > max(PROBE_AFTER, <int64_t>(PROBE_TIMES * time * 1e9))


cdef void keep_near(Members members, int soonest) noexcept nogil:
    """Keep the candidates that are as good as the fastest, and idle ones that may be."""
    cdef int i, k, kept = 0, rivals = members.candidates
    cdef Member *m
    cdef double most = members.member[soonest].cost * NEAR
    for k in range(rivals):
        i = members.candidate[k]
        m = &members.member[i]
        if m.cost <= most or (m.busy == 0 and maybe(members, m, &members.member[soonest], rivals)):
            members.candidate[kept] = i
            kept += 1
    members.candidates = kept


cdef inline double slower(double surprise) noexcept nogil:
    """The expected slowdown of a server that may have become SLOW times slower."""
    cdef double odds = exp(surprise)
    return 1 + (SLOW - 1) * odds / (odds + CHANGED_ODDS)


cdef bint maybe(Members members, Member *m, Member *best, int rivals) noexcept nogil:
    """Draw whether an idle server that seems slower than the best of `rivals` counts as equally good."""
    cdef double beyond, variance, evidence = m.estimate.surprise - best.estimate.surprise - log(CHANGED_ODDS)
    if m.usual > best.usual:
        beyond = log(m.usual / best.usual)
        variance = members.variance * (1 / (m.estimate.answers + DOUBT) + 1 / (best.estimate.answers + DOUBT))
        evidence = max(evidence, beyond * beyond / (2 * variance) - log(<double>rivals) - CHANCE)
    return evidence < SURE and members.chance() * 2.0 ** -48 < exp(-evidence)
