"""Answers of control and heartbeat, as the tests of what is made of them need them."""

from typing import Any

PASSED = {
    "answers": [0, 5, 1, 2, 3],
    "unanswered": 4,
    "durations": [1, 2, *[0] * 12, 3, 9],
    "seconds": 2.5,
    "bytes_in": 30,
    "bytes_out": 40,
    "retried": 1,
    "waited": 2,
    "waited_seconds": 0.5,
    "queued": 3,
    "outcomes": {"ok": 6, "client_left": 4, "connect_refused": 1},
}
SERVER = {
    "name": "app1",
    "address": "127.0.0.1:1",
    "state": "up",
    "admin": "ready",
    "ejection": "in rotation",
    "backup": False,
    "weight": 1,
    "override": None,
    "effective_weight": 0.5,
    "slow_start": 1.0,
    "load": 0.25,
    "in_flight": 5,
    "max_connections": 20,
    "requests": 7,
    "handshakes": {"full": 3, "resumed": 4},
    "failures": 2,
    "busy_seconds": 1.5,
    "bytes_in": 10,
    "bytes_out": 20,
    "sessions": None,
    "check": {"result": "OK", "good": True, "seconds": 0.003, "detail": ""},
    "agent": None,
}


SESSIONS = {
    "live": 90,
    "max": 100,
    "auto": False,
    "waiting": 12,
    "present": 11,
    "places": 500,
    "early": 0,
    "advance_rate": 0.25,
    "entered": 30,
    "admitted": 130,
    "adopted": 7,
    "measured_max": None,
    "queue": [{"place": 1, "silent": 2, "present": True}, {"place": 2, "silent": 31, "present": False}],
}
MEMORY = {"used": 0.42, "of": "the machine", "limit": 0.95, "short": False}


def control(*servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What control says of a gateway in which all is well."""
    return {
        "program": "1.2.3",
        "node": "gw1",
        "cluster": False,
        "version": 3,
        "tree": {
            "state": "running",
            "started": 1e9,
            "reloads": {"accepted": 2, "refused": 1},
            "last_reload": {"at": 2e9, "accepted": False},
            "processes": {"control": 2, "worker 0": 3},
            "deaths": {"worker 0": 4},
            "bad_reports": {"worker 0": 1},
            "upgrades_failed": 0,
            "sandbox": {"seccomp": True, "landlock": False},
        },
        "workers": [{"number": 0, "silent": 0.1}],
        "processes": [{"name": "worker 0", "pid": 3, "cpu_seconds": 1.25, "resident_bytes": 4096}],
        "frontends": [
            {
                "name": "web",
                "open": 6,
                "limit": 100,
                "connections": 50,
                "turned_away": 8,
                "pauses": 2,
                "abuses": {"reset_flood": 2},
                **PASSED,
            }
        ],
        "backends": [
            {
                "name": "app",
                "servers": [{**SERVER, **server} for server in servers or ({},)],
                "concurrency": {"limit": 12.5, "why": "latency", "base": 0.01, "recent": 0.02, "in_flight": 12},
                **PASSED,
            }
        ],
        "classes": [
            {"name": "gold", "priority": 1, "concurrency": 5, "in_flight": 2, "admitted": 4, "over": 1, **PASSED}
            | {"limit": "rate 5/s per source", "why": "below every limit"}
        ],
        "sessions": SESSIONS,
        "memory": MEMORY,
        "sites": {"mel": 0.5, "syd": None},
        "overrides": {"serial": 0, "node": None, "of": {}},
        "refused": {"load report": {"bad signature": 3}, "check hint": {}, "cluster news": {}},
        **more,
    }


def heartbeat(**more: Any) -> dict[str, Any]:
    """What the heartbeat of an owner says."""
    link = {"alive": True, "loss": 0.01, "delay": 0.0002}
    return {
        "node": "gw1",
        "admin_state": "join",
        "mode": "witness",
        "lease_enforced_by": "kernel",
        "doubts": [],
        "nodes": [
            {"name": "gw1", "state": "join", "alive": True, "self": True, "links": {}},
            {"name": "gw2", "state": "join", "alive": True, "same_settings": False, "links": {"udp": link}},
            {"name": "witness", "state": "", "alive": False, "same_settings": True, "links": {}},
        ],
        "addresses": [
            {"address": "192.0.2.10", "state": "owner", "owner": "gw1", "reason": "gw2 is dead"},
            {"address": "192.0.2.11", "state": "backup", "owner": None, "reason": "ready"},
        ],
        "refused": {"bad: signature": 5},
        "takeovers": {"192.0.2.10": 1},
        "releases": {},
        "contests": {"192.0.2.10": 2},
        "failures": {"fence": 1},
        "health": {"measured": 255, "believed": 100, "reason": "serving", "falls": 2, "hold": 2.0},
        **more,
    }
