"""Classes and rates in a site file: what they are, and what is refused."""

import pytest

from gateway.config.model import Queue
from gateway.config.rate_limit import Per
from tests.config.conftest import BASE, Load, Refuse, with_route


def with_class(keys: str) -> str:
    return f"{BASE}qos: {{classes: [{{name: a, {keys}}}]}}\n"


def test_keys_of_a_class(load_text: Load) -> None:
    (item,) = load_text(
        with_class(
            "priority: 2, share: 40%, concurrency: 500, rate: 50/s, burst: 10, per: source, delay: 2s, dry_run: true"
        )
    ).site.qos.classes
    assert (item.priority, item.share, item.concurrency, item.admit) == (2, 0.4, 500, None)
    assert (item.rate, item.at_once, item.per, item.delay, item.dry_run) == (50.0, 10, Per("source"), 2.0, True)


def test_without_keys_there_is_no_limit(load_text: Load) -> None:
    (item,) = load_text(with_class("match: {path: /}")).site.qos.classes
    assert (item.priority, item.share, item.concurrency, item.rate, item.admit) == (7, None, None, None, None)


@pytest.mark.parametrize(
    "rate, per_second, at_once",
    [("5/s", 5, 5), ("600/m", 10, 10), ("5/m", 5 / 60, 1), ("100/h", 100 / 3600, 1), ("100000/s", 100_000, 100_000)],
)
def test_the_default_burst_is_the_rate_of_a_second(load_text: Load, rate: str, per_second: float, at_once: int) -> None:
    (route,) = load_text(with_route(f"{{rate: {rate}, backend: app}}")).site.routes
    assert route.rate == pytest.approx(per_second)
    assert route.at_once == at_once


@pytest.mark.parametrize(
    "per, parsed",
    [
        ("source", Per("source")),
        ("header:X-Api-Key", Per("header", "X-Api-Key")),
        ("cookie:id", Per("cookie", "id")),
        ("query:key", Per("query", "key")),
        ('"{client} {path}"', Per("template", "{client} {path}")),
        ('"{header:X-A}"', Per("template", "{header:X-A}")),
    ],
)
def test_keys_by_which_requests_are_counted(load_text: Load, per: str, parsed: Per) -> None:
    (route,) = load_text(with_route(f"{{rate: 5/s, per: {per}, backend: app}}")).site.routes
    assert route.per == parsed


def test_a_route_may_count_by_a_group_of_its_own(load_text: Load) -> None:
    text = with_route('{match: {path: "~ ^/u/(?<user>[^/]+)"}, rate: 5/s, per: "{user}"}\n  - {backend: app}')
    assert load_text(text).site.routes[0].per == Per("template", "{user}")


@pytest.mark.parametrize(
    "keys, message",
    [
        ("rate: »5", "expected a rate such as 5/s, 600/m, 100/h (did you mean 5/s?)"),
        ("rate: »5.0", "expected a rate such as 5/s, 600/m, 100/h"),
        ("rate: »5KiB/s", "expected a rate of requests"),
        ("bandwidth: »5", "expected bytes per second such as 500KiB/s, 1MiB/s"),
        ("bandwidth: »-5", "expected bytes per second such as 500KiB/s, 1MiB/s"),
        ("total_bandwidth: »2000", "expected bytes per second such as 500KiB/s, 1MiB/s"),
        ("rate: »0/s", "to admit none, use admit: never"),
        ("rate: »200000/s", "must be between 1/h and 100000/s"),
        ("»burst: 5", "burst needs rate"),
        ("»per: source", "per needs rate"),
        ("»delay: 1s", "delay needs rate"),
        ("»dry_run: true", "dry_run needs rate or concurrency"),
        ("rate: 5/s, burst: »0", "must be at least 1"),
        ("rate: 1/h, burst: »100", "at this rate the burst takes 100h to recover"),
        ("rate: 5/s, per: »sourc", "(did you mean source?)"),
        ("rate: 5/s, per: »header", "expected one of source, header:NAME"),
        ('rate: 5/s, per: "»{clint}"', "unknown field {clint} (did you mean client?)"),
        ("priority: »16", "must be at most 15"),
        ("priority: »-1", "must be at least 0"),
        ("concurrency: »0", "must be at least 1"),
        ("share: »101%", "expected a share"),
        ("admit: »maybe", "expected one of always, never"),
        ("admit: always, »rate: 5/s", "admit: always makes rate useless"),
        ("admit: always, »concurrency: 5", "admit: always makes concurrency useless"),
        ("admit: never, »priority: 5", "admit: never makes priority useless"),
    ],
)
def test_mistakes_in_a_class(refuse: Refuse, keys: str, message: str) -> None:
    text = with_class(keys)
    if '"»' in text:  # the place is that of the character at fault
        text = text.replace('"»', '»"', 1)
    refuse(text, message)


def test_mistakes_in_a_route(refuse: Refuse) -> None:
    refuse(with_route("{»dry_run: true, backend: app}"), "dry_run needs rate")
    refuse(with_route("{»burst: 5, backend: app}"), "burst needs rate")


def test_shares_are_of_one_whole(refuse: Refuse) -> None:
    refuse(
        f"{BASE}qos: {{classes: [{{name: a, share: 60%}}, {{name: b, share: »50%}}]}}\n",
        "the shares add up to 110%, more than 100%",
    )


def test_there_are_not_more_classes_than_lanes(refuse: Refuse) -> None:
    classes = ", ".join(f"{{name: c{i}}}" for i in range(64))
    refuse(f"{BASE}qos: {{classes: »[{classes}]}}\n", "64 classes exceed the limit of 63")


def test_a_turn_that_nothing_waits_for_is_warned_of(load_text: Load) -> None:
    loaded = load_text(with_class("priority: 1, share: 20%"))
    assert [(warning.line, warning.message) for warning in loaded.warnings] == [
        (3, "priority has no effect: requests wait only at a backend with queue, and there is none"),
        (3, "share has no effect: requests wait only at a backend with queue, and there is none"),
    ]
    queue = "backends: {app: {servers: [{address: 127.0.0.1:1, max_connections: 1}], queue: {}}}\n"
    frontend = 'frontends: [{listen: "127.0.0.1:80"}]\n'
    assert load_text(f"{frontend}{queue}qos: {{classes: [{{name: a, share: 20%}}]}}\n").warnings == ()


def with_overload(keys: str) -> str:
    return f"{BASE}qos: {{overload: {{{keys}}}}}\n"


@pytest.mark.parametrize(
    "keys, concurrency, fair_by",
    [
        ("", None, None),
        ("concurrency: auto, fair_by: source", None, Per("source")),
        ("concurrency: 200, fair_by: 'header:X-Tenant'", 200, Per("header", "X-Tenant")),
        ("concurrency: off, fair_by: off", 0, None),
    ],
)
def test_overload_control(load_text: Load, keys: str, concurrency: int | None, fair_by: Per | None) -> None:
    site = load_text(with_overload(keys)).site
    assert site.qos.overload is not None
    assert (site.qos.overload.concurrency, site.qos.overload.fair_by) == (concurrency, fair_by)
    (name,) = site.backends
    assert site.backends[name].queue is None
    assert site.queue(name) == Queue()


def test_without_overload_control_requests_wait_only_where_a_backend_says_so(load_text: Load) -> None:
    site = load_text(BASE).site
    assert [site.queue(name) for name in site.backends] == [None]


@pytest.mark.parametrize(
    "keys, message",
    [
        ("concurrency: »0", "expected auto, off, or a number of requests"),
        ("concurrency: »fast", "expected auto, off, or a number of requests"),
        ("memory: »0.5", "expected a part such as 95%, or off"),
        ("fair_by: »'query:a'", "expected source, header:NAME, cookie:NAME or off"),
        ("»newest_first: true", "newest_first needs target_delay"),
        (
            "target_delay: 20ms, newest_first: true, fair_by: »source",
            "newest_first and fair_by cannot be combined: remove one of them",
        ),
    ],
)
def test_invalid_overload_control(refuse: Refuse, keys: str, message: str) -> None:
    refuse(with_overload(keys), message)


@pytest.mark.parametrize(
    "bandwidth, message",
    [
        ("»500/s", "the rate is in bytes: did you mean 500B/s?"),
        ("»fast", "expected bytes per second such as 500KiB/s, 1MiB/s"),
        ("»10B/s", "must be between 1KiB/s and 1TiB/s"),
    ],
)
def test_a_bandwidth_is_of_bytes(refuse: Refuse, bandwidth: str, message: str) -> None:
    refuse(with_class(f"bandwidth: {bandwidth}"), message)


@pytest.mark.parametrize(
    "overload, message",
    [
        ("{memory: »lots}", "expected a part such as 95%, or off"),
        ("{memory: »100%}", "must be more than 0% and less than 100%"),
    ],
)
def test_the_part_of_the_memory_that_may_be_used(refuse: Refuse, overload: str, message: str) -> None:
    refuse(BASE + f"qos: {{overload: {overload}}}\n", message)


def test_the_bandwidth_of_a_class_and_of_a_route(load_text: Load) -> None:
    site = load_text(with_route("{match: {path: /a}, bandwidth: 1MiB/s}\n  - {backend: app}")).site
    assert [route.bandwidth for route in site.routes] == [1024 * 1024, None]
    assert load_text(with_class("bandwidth: 600KiB/m")).site.qos.classes[0].bandwidth == 10240


# -------------------------------------------------------------------------------------------------------------- sessions


def with_sessions(keys: str) -> str:
    return f"{BASE}qos: {{sessions: {{{keys}}}}}\n"


def test_sessions_without_more_are_kept_in_a_cookie(load_text: Load) -> None:
    sessions = load_text(with_sessions("max: 2000")).site.qos.sessions
    assert sessions is not None
    assert (sessions.max, sessions.idle, sessions.key.cookie, sessions.key.url) == (2000, 600.0, "GWSESSION", None)
    assert (sessions.waiting_room, sessions.full.status, sessions.opens) == (None, 503, None)


def test_a_waiting_room_has_its_defaults(load_text: Load) -> None:
    sessions = load_text(with_sessions("max: 1, waiting_room: {}, opens: 2026-12-24T18:00:00Z")).site.qos.sessions
    assert sessions is not None
    assert sessions.waiting_room is not None
    assert (sessions.waiting_room.places, sessions.waiting_room.refresh) == (5000, 5.0)
    assert sessions.opens == 1798135200


@pytest.mark.parametrize(
    "keys, message",
    [
        ("max: »0", "expected 1 to 524288 sessions, or auto"),
        ("max: »many", "expected a number of sessions, or auto"),
        ("max: »auto", "auto needs max_connections at all servers of a backend"),
        ("max: 5, idle: »500ms", "must be at least 1s"),
        ("max: 5, idle: »2d", "must be at most 1d"),
        ("max: 5, key: »{}", "key needs one of cookie, url"),
        ("max: 5, key: »{cookie: a, url: b}", "key needs one of cookie, url"),
        ("max: 5, waiting_room: {refresh: »10m}", "must be at most 5m"),
        ("max: 5, waiting_room: {places: »2000000}", "must be at most 1048576"),
        ("max: 5, waiting_room: {page: »no.html}", "cannot read"),
        ("max: 5, full: {status: »200}", "must be at least 400"),
        ("max: 5, full: {site: »auto}", "there are no other sites: `sites:` is missing"),
        ('max: 5, »opens: "2026-12-24T18:00:00Z"', "opens needs waiting_room"),
        ("max: 5, waiting_room: {}, opens: »soon", "expected a time such as"),
    ],
)
def test_mistakes_in_sessions(refuse: Refuse, keys: str, message: str) -> None:
    refuse(with_sessions(keys), message)


def test_a_cookie_has_one_meaning(refuse: Refuse) -> None:
    backends = 'backends: {app: {affinity: {cookie: A}, servers: ["127.0.0.1:1"]}}\n'
    frontends = BASE.splitlines()[0]
    refuse(
        f"{frontends}\n{backends}qos: {{sessions: {{max: 5, key: {{cookie: »A}}}}}}\n",
        "A is the affinity cookie of backend app",
    )


@pytest.mark.parametrize("match, message", [
    ("{when: »'user == \"a\"'}", "requests have no user yet"),
    ("{when: 'host == \"a\" && »class == \"b\"'}", "requests have no class yet"),
    ("{not: {»class: b}}", "requests have no class yet"),
    ("{any: [{host: a}, {all: [{when: »'user != \"\"'}]}]}", "requests have no user yet"),
])  # fmt: skip
def test_what_is_unknown_when_classes_are_assigned(refuse: Refuse, match: str, message: str) -> None:
    refuse(f"{BASE}qos: {{classes: [{{name: a, match: {match}}}, {{name: b}}]}}\n", message)
