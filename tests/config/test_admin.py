"""Where operators may ask over HTTP, and who may."""

from pathlib import Path

import pytest

from gateway.config.address import Listen
from tests.config.conftest import BASE, Load, Refuse
from tests.support.certificates import Authority


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "admin.token"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef\n")
    return path


def test_by_default_nothing_listens(load_text: Load) -> None:
    admin = load_text(BASE).site.admin
    assert (admin.listen, admin.token_file) == (None, None)


@pytest.mark.parametrize("listen", ["127.0.0.1:8900", "127.1.2.3:8900", "[::1]:8900"])
def test_on_this_machine_no_token_is_needed(load_text: Load, listen: str) -> None:
    assert load_text(f'{BASE}admin: {{listen: "{listen}"}}\n').site.admin.token_file is None


@pytest.mark.parametrize("listen", ["0.0.0.0:8900", "[::]:8900", "10.0.0.1:8900"])
def test_beyond_it_one_is(load_text: Load, refuse: Refuse, listen: str, token: Path) -> None:
    refuse(f'{BASE}admin: {{listen: »"{listen}"}}\n', f"{listen} is reachable from other machines")
    admin = load_text(f'{BASE}admin: {{listen: "{listen}", token_file: {token.name}}}\n').site.admin
    assert admin.listen is not None
    assert (str(admin.listen), admin.token_file) == (listen, token)


def test_the_token_is_its_owners_alone(refuse: Refuse, token: Path) -> None:
    text = f'{BASE}admin: {{listen: "127.0.0.1:1", token_file: »admin.token}}\n'
    token.chmod(0o640)
    refuse(text, f"other users can read {token}; run: chmod 600 {token}")
    token.chmod(0o600)
    token.write_text("short")
    refuse(text, "the key is too short: at least 16 bytes")
    token.unlink()
    refuse(text, f"cannot read {token}: no such file")


def test_a_token_for_nothing(refuse: Refuse, token: Path) -> None:
    refuse(f"{BASE}admin: {{»token_file: {token.name}}}\n", "token_file needs listen")


def test_an_address_that_clients_have(refuse: Refuse, load_text: Load) -> None:
    refuse(f'{BASE}admin: {{listen: »"127.0.0.1:80"}}\n', "127.0.0.1:80 is where a frontend listens")
    assert load_text(f'{BASE}admin: {{listen: "127.0.0.1:81"}}\n').site.admin.listen == Listen("127.0.0.1", 81)


def test_operators_have_a_token_and_a_role(load_text: Load, refuse: Refuse, token: Path) -> None:
    alice = f"{{name: alice, token_file: {token.name}, role: read}}"
    admin = load_text(f'{BASE}admin: {{listen: "10.0.0.1:8900", operators: [{alice}]}}\n').site.admin
    assert [(one.name, one.token_file, one.role) for one in admin.operators] == [("alice", token, "read")]
    assert (admin.guarded, admin.open_to) == (True, None)
    refuse(f'{BASE}admin: {{listen: "127.0.0.1:1", operators: [{alice}, {{name: »alice, token_file: a}}]}}\n',
           "there are two operators alice")  # fmt: skip
    refuse(f'{BASE}admin: {{listen: "127.0.0.1:1", operators: [{{name: bob, token_file: »none}}]}}\n', "cannot read")


def test_operators_may_be_known_by_a_client_certificate(load_text: Load, refuse: Refuse, authority: Authority) -> None:
    pair = authority.issue("gw.example")
    tls = f"tls: {{cert: {pair.cert}, key: {pair.key}, client_ca: {authority.ca}}}"
    deploy = "operators: [{name: deploy, client_cert: deploy.example}]"
    loaded = load_text(f'{BASE}admin: {{listen: "10.0.0.1:8900", {tls}, {deploy}}}\n')
    assert (loaded.site.admin.guarded, loaded.site.admin.open_to) == (True, None)
    assert not [one for one in loaded.warnings if "unencrypted" in one.message]
    refuse(
        f'{BASE}admin: {{listen: "127.0.0.1:1", operators: [{{name: a, »client_cert: a}}]}}\n', "client_cert needs tls"
    )
    refuse(
        f'{BASE}admin: {{listen: "127.0.0.1:1", operators: [»{{name: a}}]}}\n', "token_file or client_cert is missing"
    )
    refuse(f"{BASE}admin: {{»tls: {{cert: a, key: b}}}}\n", "tls needs listen")
    refuse(f'{BASE}admin: {{listen: "127.0.0.1:1", tls: {{cert: »none, key: {pair.key}}}}}\n', "cannot read")
    refuse(f'{BASE}admin: {{listen: "10.0.0.1:1", {tls[:-1]}}}, »without_token: read}}\n', "a token is required there")


def test_tokens_that_cross_the_network_unencrypted_are_a_warning(load_text: Load, token: Path) -> None:
    loaded = load_text(f'{BASE}admin: {{listen: "10.0.0.1:8900", token_file: {token.name}}}\n')
    assert "tokens of 10.0.0.1:8900 cross the network unencrypted" in str(loaded.warnings)
    loaded = load_text(f'{BASE}admin: {{listen: "127.0.0.1:8900", token_file: {token.name}}}\n')
    assert "unencrypted" not in str(loaded.warnings)


def test_what_a_request_without_a_token_may_do(load_text: Load, refuse: Refuse, token: Path) -> None:
    assert load_text(f'{BASE}admin: {{listen: "127.0.0.1:1"}}\n').site.admin.open_to == "read"
    text = f'{BASE}admin: {{listen: "127.0.0.1:1", token_file: {token.name}}}\n'
    assert load_text(text).site.admin.open_to is None
    text = f'{BASE}admin: {{listen: "127.0.0.1:1", without_token: operate}}\n'
    assert load_text(text).site.admin.open_to == "operate"
    refuse(f'{BASE}admin: {{listen: "10.0.0.1:1", token_file: {token.name}, »without_token: read}}\n',
           "10.0.0.1:1 is reachable from other machines: a token is required there")  # fmt: skip
    refuse(f'{BASE}admin: {{listen: "127.0.0.1:1", without_token: »configure}}\n', "read")
    refuse(f"{BASE}admin: {{»without_token: read}}\n", "without_token needs listen")
