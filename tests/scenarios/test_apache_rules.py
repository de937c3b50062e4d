"""Rules of Apache in a whole gateway: on the wire, in the access log, in a worker that cannot open files."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.scenarios.test_basic_auth import SHA, login
from tests.scenarios.test_forwarding import fields
from tests.support.backend_server import BackendServer
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.raw import RawClient
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]
RULES = """\
SetEnvIf User-Agent "(?:evil|bad)bot" bad
<RequireAll>
Require all granted
Require not env bad
</RequireAll>
<FilesMatch "\\.bak$">
Require all denied
</FilesMatch>
RewriteEngine On
RewriteRule ^(.)(.)\\2$ - [F]
RewriteRule ^(?:(a+)+)+(?=b)\\1 - [F]
RewriteRule ^see/(.*)$ $1 [L]
Redirect 301 /old http://other.example/new
RequestHeader set X-Seen "by rules"
Header edit X-Server ^ the-
Header setifempty X-Server other
Header setifempty X-Filled here
Header set X-Right yes "expr=%{REQUEST_STATUS} == '200' && resp('X-Server') == 'the-app1'"
Header set X-Wrong yes "expr=%{REQUEST_STATUS} == '404' || resp('X-Server') == 'other'"
Header set X-Filled there "expr=%{REQUEST_STATUS} -ge 300"
RewriteCond %{SERVER_ADDR} =127.0.0.1
RewriteRule ^here$ headers [L]
ProxyPassReverseCookiePath /app /
"""
LOGIN = """\
AuthType Basic
AuthName "The \\"staff\\""
AuthUserFile users
Require valid-user
<Files bert.txt>
Require user bert
</Files>
ErrorDocument 401 "ask the office"
"""


def test_rules_of_several_modules(start_gateway: Starter, start_servers: Servers, tmp_path: Path) -> None:
    rules, log = tmp_path / "rules.htaccess", tmp_path / "access.log"
    rules.write_text(RULES)
    description = {**site(start_servers("app1")), "access_log": {"path": str(log)}}
    description["routes"] = [{"apache": str(rules)}, {"backend": "app"}]
    gateway = start_gateway(description)
    with RawClient(gateway.port) as client:
        answer = client.get("/see/headers")
        assert dict(fields(answer.body))["x-seen"] == "by rules"
        assert (answer.header("X-Server"), answer.header("X-Filled")) == ("the-app1", "here")
        assert (answer.header("X-Right"), answer.header("X-Wrong")) == ("yes", None)
        moved = client.get("/old/a?b")
        assert (moved.status, moved.header("Location")) == (301, "http://other.example/new/a?b")
        refused = [("/x.bak", ()), ("/xaa", ()), ("/headers", ("User-Agent: a badbot",)), ("/" + "a" * 2000 + "c", ())]
        assert [client.get(url, *headers).status for url, headers in refused] == [403, 403, 403, 500]
    eventually(lambda: log.read_bytes().count(b"\n") >= 6, "six lines in the access log")
    named = [json.loads(line)["rule"].removeprefix("rules.htaccess:") for line in log.read_text().splitlines()]
    assert [named[i] for i in (0, 1, 2, 3)] == ["", "13", "7", "10"]
    gateway.wait_for_log("a pattern exceeded the limit of matching steps")


def test_users_of_an_apache_file_log_in_and_a_changed_file_is_taken_up(
    start_gateway: Starter, start_servers: Servers, tmp_path: Path
) -> None:
    rules, users, log = tmp_path / "rules.htaccess", tmp_path / "users", tmp_path / "access.log"
    rules.write_text(LOGIN)
    users.write_text(f"anna:{SHA}\n")
    users.chmod(0o640)
    description = {**site(start_servers("app1")), "access_log": {"path": str(log)}}
    description["routes"] = [{"apache": str(rules)}, {"set_header": {"X-User": "{user}"}, "backend": "app"}]
    gateway = start_gateway(description)

    def status(user: str, path: str = "/headers") -> int:
        with RawClient(gateway.port) as client:
            return client.get(path, login(user, "password")).status

    with RawClient(gateway.port) as client:
        refused = client.get("/headers")
        assert (refused.status, refused.body) == (401, b"ask the office")
        assert refused.header("WWW-Authenticate") == 'Basic realm="The \\"staff\\"", charset="UTF-8"'
        assert client.get("/headers", login("anna", "wrong")).status == 401
        seen = client.get("/headers", login("anna", "password"))
        assert (seen.status, dict(fields(seen.body))["x-user"]) == (200, "anna")
    assert [status("anna", "/bert.txt"), status("bert")] == [401, 401]
    users.write_text(f"anna:{SHA}\nbert:{SHA}\n")
    eventually(lambda: status("bert") == 200, "bert in the changed file")
    eventually(lambda: log.read_bytes().count(b"\n") >= 6, "six lines in the access log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["user"], line["rule"]) for line in lines[:4]] == [
        ("", "rules.htaccess:1"),
        ("", "rules.htaccess:1"),
        ("anna", ""),
        ("", "rules.htaccess:6"),
    ]
