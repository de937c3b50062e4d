"""Basic authentication (RFC 7617): a route lets only clients pass that send a user and password of a file.

A check of a password takes long on purpose, so that results are kept for a while, and what is not known yet is not
checked here: the step ends the search with a Login, which is settled beside the traffic, and the request is decided
on again. Neither user nor password of a refused request is kept or shown: people type one in place of the other.
"""

import binascii
import os
from base64 import b64decode
from hashlib import blake2b
from time import monotonic

from gateway.rules.actions cimport answer
from gateway.rules.view cimport IN_HEADER

from gateway.rules.passwords import LONGEST, fits

KNOWN = 10_000
"""Results of a file that are kept."""
GOOD = 60.0
"""Seconds for which a password that fits is not checked again,"""
BAD = 10.0
"""and one that does not."""


cdef class Logins:
    """hashes: of passwords, by user; see gateway.config.htpasswd."""

    def __init__(self, hashes):
        self.hashes = hashes
        self._stand_in = next(iter(hashes.values()))
        self._key = os.urandom(32)
        self._known = {}

    cdef object known(self, bytes digest):
        """Whether the credentials fit, as far as a check has found lately; None: they must be checked."""
        found = self._known.get(digest)
        if found is None or found[0] <= monotonic():
            return None
        return found[1]

    def fits(self, bytes user, bytes password):
        """Check a password, which takes as long for a user that does not exist. For a thread."""
        hashed = self.hashes.get(user)
        return fits(password, self._stand_in if hashed is None else hashed) and hashed is not None

    def keep(self, bytes digest, *, bint good, double now):
        """Remember a result; the oldest is forgotten for it if there are too many."""
        self._known.pop(digest, None)
        if len(self._known) >= KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = (now + (GOOD if good else BAD), good)


cdef class Login(Question):
    def check(self):
        """Whether the credentials fit. Slow, and for any thread."""
        return self.logins.fits(self.user, self.password)

    def settle(self, *, bint good):
        """Remember the result, so that the next decision on the request goes on."""
        self.logins.keep(self.key, good=good, now=monotonic())


cdef class RequireLogin(Step):
    """users: those of the file that may pass; empty: all of them. forward: servers get the credentials, too."""

    def __init__(self, Logins logins, str realm, users=(), *, bint forward=True):
        self.logins = logins
        self.users = frozenset([user.encode() for user in users]) if users else None
        self.forward = forward
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
        self.challenge = f'WWW-Authenticate: Basic realm="{quoted}", charset="UTF-8"\r\n'.encode()
        self.text = f"log in to {realm}"

    cdef object run(self, View v):
        cdef bytes user, password, digest
        cdef Login login
        found = credentials(v.values(IN_HEADER, b"authorization"))
        if found is None:
            self._note(v, "no user and password")
            return self.refusal(v)
        user, password = found
        digest = blake2b(b"%d:%s%s" % (len(user), user, password), key=self.logins._key, digest_size=16).digest()
        good = v.settled.get(digest) if v.settled is not None else None
        if good is None:
            # Too long for any hash, so it need not wait for a check.
            good = False if len(password) > LONGEST else self.logins.known(digest)
        if good is None:
            login = Login.__new__(Login)
            login.logins = self.logins
            login.key = digest
            login.user = user
            login.password = password
            return login
        if not good:
            self._note(v, "user or password is wrong")
            return self.refusal(v)
        if self.users is not None and user not in self.users:
            self._note(v, f"{user.decode('utf-8', 'replace')} is not one of its users")
            return self.refusal(v)
        v.user = user
        if not self.forward:
            v.edits(False).set(b"Authorization", None)
        self._note(v, f"user {user.decode('utf-8', 'replace')}")
        return None

    cdef object refusal(self, View v):
        return answer(401, self.challenge, None)

    def _note(self, View v, text):
        if v.notes is not None:
            v.notes.append((self.text, text))


def credentials(list values):
    """User and password of an Authorization field, by all its values; None: it has none of the Basic scheme."""
    if len(values) != 1:
        return None
    scheme, _, text = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = b64decode(text.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None
