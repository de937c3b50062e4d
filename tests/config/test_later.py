"""Keys that are known but do not work yet are refused by name, each at its place."""

from gateway.config import explain, later
from tests.config.conftest import BASE, Refuse

SAMPLE = """\
node: gw1
frontends:
  - listen: "127.0.0.1:80"
    tls: {certificates: [{cert: »none, key: »none}]}
backends:
  app:
    servers: ["127.0.0.1:1"]
routes:
  - backend: app
»maintenance: {hosts: []}
cluster: {key_file: »none, nodes: {gw1: 10.0.0.1}}
tests:
  - {request: "GET http://a/", expect: {status: 200}}
"""


def test_every_later_key(refuse: Refuse) -> None:
    messages = []
    for line in SAMPLE.split("\n"):
        for piece in line.split("»")[1:]:
            key = piece.partition(":")[0]
            messages.append("cannot read" if piece.startswith("none") else f"{key} is not supported yet")
    refuse(SAMPLE, *messages)
    assert sum(len(keys.split()) for keys in later.KEYS.values()) == len(messages) - 3


def test_later_keys_belong_to_mappings_that_exist_and_are_not_there_yet() -> None:
    for mapping, keys in later.KEYS.items():
        assert set(keys.split()).isdisjoint(explain.vocabulary()[mapping])


def test_a_key_elsewhere_is_told_its_place(refuse: Refuse) -> None:
    refuse(f"{BASE}»acme: 1\n", "acme: it belongs in tls")
