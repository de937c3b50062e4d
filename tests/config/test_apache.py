"""Files of Apache's rules: what is not supported is said with its line, never left out."""

import pytest

from gateway.config.apache import ApacheError, parse

LOGIN = "AuthType Basic\nAuthName x\nAuthUserFile users\nRequire valid-user\n"


def read(name: str) -> bytes:
    return b"a b\n" if name == "m.txt" else b""


@pytest.mark.parametrize("text, line, reason", [
    ("SetHandlers x", 1, "SetHandlers is not supported: if it is about what the server does by itself, take it out"),
    ("RewriteEngine On\nRewriteOptions Inherit", 2, "RewriteOptions is not supported: write the inherited rules"),
    ("AuthType Digest", 1, "AuthType Digest is not supported: users log in by AuthType Basic"),
    ("AuthBasicProvider ldap", 1, "AuthBasicProvider ldap is not supported: users log in by AuthType Basic"),
    ("AuthGroupFile /x", 1, "AuthGroupFile is not supported: name the users of the group: Require user NAME"),
    ("Require group staff", 1, "Require group staff is not supported: name the users of the group"),
    ("Require valid-user", 1, "there is no AuthType and no AuthName and no AuthUserFile: users log in by"),
    ("AuthType Basic\nAuthName x\n<Files y>\nRequire user anna\n</Files>", 4, "there is no AuthUserFile: users log in"),
    ("Require not user anna", 1, "users can be named, not excluded"),
    ("<RequireNone>\nRequire valid-user\n</RequireNone>", 3, "users can be named, not excluded"),
    (LOGIN + "<VirtualHost *>\n</VirtualHost>", 1, "no effect outside of <VirtualHost>: write it in each"),
    ("Require ip 10.0.0.0/8\n<VirtualHost *>\n</VirtualHost>", 1, "no effect outside of <VirtualHost>"),
    ("<Location /private>\nDeny from all\n</Location>\n<VirtualHost *>\n</VirtualHost>", 2, "no effect outside of"),
    ("Redirect /a /b\n<VirtualHost *>\n</VirtualHost>", 1, "no effect outside of <VirtualHost>"),
    ("root:*:20228:0:99999:7:::", 1, "this line is not supported"),
    ("Satisfy Both", 1, "Satisfy is Any or All"),
    ("Require ip 10.0.0.300", 1, "10.0.0.300 is no address or network"),
    ("Require host example.com", 1, "names of clients are not looked up; write Require ip"),
    ("Order allow", 1, "Order is Allow,Deny or Deny,Allow"),
    ("Deny 10.0.0.1", 1, "Deny is written with from"),
    ("Deny from .example.com", 1, ".example.com is no address or network; names of clients are not looked up"),
    ("Redirect old /new", 1, "old is no path: it begins with /"),
    ("Redirect /old new", 1, "new is neither a URL nor a path that begins with /"),
    ("Redirect 404 /old /new", 1, "takes 1 arguments, not 2"),
    ("RedirectMatch ( /new", 1, "not a regular expression"),
    ("Header echo X-A", 1, "Header echo is not supported"),
    ("Header set X-A %D", 1, "%D is not supported in the value of a Header"),
    ("Header set X-A b when=x", 1, "when=x is neither env=… nor expr=…"),
    ('Header set "X A" b', 1, "X A is no name of a header field"),
    ("ProxyPass /a fcgi://x/", 1, "fcgi://x/ is not supported: a backend, or the address of a server"),
    ("<Files x>\nProxyPass http://x/\n</Files>", 2, "write ProxyPass PATH URL outside of it"),
    ("SetHandler proxy:http://x/", 1, "SetHandler proxy: is not supported: write ProxyPass PATH URL"),
    ("<Proxy *>\nRequire ip 10.0.0.0/8\n</Proxy>", 2, "Require in <Proxy> is not supported: write it in a <Location>"),
    ("<Else>\n</Else>", 1, "<Else> follows no <If>"),
    ("<If true>\nOptions x\n</If>\n<Files x>\n<Else>\n</Else>\n</Files>", 5, "<Else> follows no <If>"),
    ("<IfVersion 2.x>\n</IfVersion>", 1, "2.x is no version"),
    ('<If "md5(%{HTTP_HOST}) == \'a\'">\n</If>', 1, "the function md5 is not supported in expressions"),
    ('<If "%{REQUEST_STATUS} == \'200\'">\n</If>', 1, "the answer is not known yet; only the expr= of a Header can"),
    ("JkMount /x worker", 1, "JkMount is not supported: write ProxyPass PATH URL to the server's HTTP port"),
    ("RewriteMap m prg:", 1, "prg: takes the path of a program"),
    ("RewriteMap m prg:/bin/cat nobody:nogroup", 1, "take out nobody:nogroup: programs of maps run as the account that `user`"),
    ("RewriteMap m dbd:select", 1, "no database is asked while a request waits: write the result of the query to a text"),
    ("RewriteMap m dbm=db:/m.dbm", 1, "and this is dbm=db: write its entries to a text file for txt:FILE, or by httxt2dbm"),
    ("RewriteMap m dbm:m", 1, "m.pag is no SDBM file with entries: write its entries to a text file for txt:FILE, or by"),
    ("<Files x>\nRewriteRule a b\n</Files>", 2, "RewriteRule in <Files> is not supported: write a condition of the rule"),
    ("<RequireAll>\n</RequireAll>", 2, "<RequireAll> is empty: write Require into it, or take it out"),
    ("<RequireAny>\nRequire frob x\n</RequireAny>", 2, "frob"),
    ("<Macro x>\nOptions y\n</Macro>", 1, "<Macro> is not supported"),
    ("<DirectoryMatch ^/srv/x>\n</DirectoryMatch>", 1, "matches nothing below the DocumentRoot /var/www/html"),
    ("<DirectoryMatch x>\nRewriteRule a b\n</DirectoryMatch>", 2, "RewriteRule in <DirectoryMatch> is not supported"),
    ("AllowEncodedSlashes Maybe", 1, "AllowEncodedSlashes must be On, Off or NoDecode"),
    ('<If "%{HTTP_HOST} = ">\n</If>', 1, "a value is expected"),
    ('<If "-e /x">\n</If>', 1, "-e is not supported in expressions"),
    ("ErrorDocument 200 /x", 1, "ErrorDocument takes a status from 400 to 599"),
    ("Include other.conf", 1, "name each file in an apache: route of its own"),
    ("RewriteEngine maybe", 1, "RewriteEngine must be on or off"),
    ("<Directory /x>\nRewriteEngine on\n</Directory>", 1, "<Directory /x> is not below the DocumentRoot /var/www/html"),
    ("<IfModule mod_rewrite.c>\nRewriteEngine on", 2, "<IfModule> is not closed"),
    ("</IfModule>", 1, "</IfModule> has no matching opening tag"),
    ("\n# x\nRewriteRule ^a", 3, "takes 2 to 3 arguments, not 1"),
    ('RewriteRule "^a b', 1, "a quote is not closed"),
    ("RewriteRule ^a( b", 1, "not a regular expression: missing )"),
    ("RewriteRule ^a b L", 1, "flags must be in brackets: [L]"),
    ("RewriteRule ^a b [LL]", 1, "there is no flag LL"),
    ("RewriteRule ^a b [H=x]", 1, "the flag H is not supported: there are no handlers here"),
    ("RewriteRule ^a b [T]", 1, "T takes a value"),
    ("RewriteRule ^a b [L=1]", 1, "L takes no value"),
    ("RewriteRule ^a b [S]", 1, "S takes a value"),
    ("RewriteRule ^a b [R=99]", 1, "R=99 is not a status"),
    ("RewriteRule ^a b [P]", 1, "P needs a fixed host"),
    ("RewriteRule ^a http://$1/ [P]", 1, "P needs a fixed host"),
    ("RewriteRule ^a %{HTTP_HOSTS}", 1, "the variable HTTP_HOSTS is not supported (did you mean HTTP_HOST?)"),
    ("RewriteRule ^a %{LA-U:REMOTE_USER}", 1, "users log in by basic_auth of a route"),
    ("RewriteRule ^a %{SSL:SSL_PROTOCOL}", 1, "%{SSL:SSL_PROTOCOL} is not supported"),
    ("RewriteRule ^a %{HTTP_HOST", 1, "%{HTTP_HOST is not closed"),
    ("RewriteRule ^a ${m:$1}", 1, "there is no RewriteMap m"),
    ("RewriteMap words txt:m.txt\nRewriteRule ^a ${word:$1}", 2, "there is no RewriteMap word (did you mean words?)"),
    ("<VirtualHost *>\nRewriteMap m txt:m.txt\n</VirtualHost>\n<VirtualHost *>\nRewriteRule ^a ${m:b}\n</VirtualHost>",
     5, "there is no RewriteMap m"),
    ("RewriteMap m int:upper", 1, "there is no internal function upper (did you mean toupper?)"),
    ("RewriteCond %{HTTPS} on", 1, "RewriteCond is not followed by a RewriteRule"),
    ("RewriteCond %{HTTPS} -q\nRewriteRule a b", 1, "there is no test -q"),
    ('RewriteCond expr "true &&"\nRewriteRule a b', 1, "a value is expected"),
    ("RewriteCond %{HTTPS} on [XX]\nRewriteRule a b", 1, "there is no flag XX"),
    ("RewriteBase x", 1, "RewriteBase must begin with /"),
])  # fmt: skip
def test_mistakes(text: str, line: int, reason: str) -> None:
    with pytest.raises(ApacheError) as caught:
        parse(text.encode(), read)
    assert [number for number, _ in caught.value.problems] == [line]
    assert reason in caught.value.problems[0][1]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ApacheError) as caught:
        parse(b"Optional x\nRewriteRule ^a b [XX]\nAddTypo y", read)
    assert [line for line, _ in caught.value.problems] == [1, 2, 3]


def test_disabled_rules_and_sections_of_other_modules_are_left_out() -> None:
    assert parse(b"RewriteRule ^a b\nRewriteEngine On\nRewriteEngine Off\nRewriteRule ^c d", read).rules == []
    rules = parse(
        b"RewriteEngine on\n<IfModule !mod_rewrite.c>\nErrorDocument 404 /x\n</IfModule>\nRewriteRule \\\n ^a\\ b  /c",
        read,
    )
    assert [(rule.line, rule.pattern) for rule in rules.rules] == [(5, "^a\\ b")]


def test_arguments_and_flags() -> None:
    (rule,) = parse(b'RewriteEngine on\nRewriteRule "^a b$" \'/c d\' "[E=X:1,E=Y:2,R=permanent,NC]"', read).rules
    assert rule.pattern == "^a b$"
    assert rule.to == (("text", "/c d", (), None),)
    assert dict(rule.flags) == {"R": "301", "NC": ""}
    assert [part[0][1] for part in rule.environment] == ["X:1", "Y:2"]


def test_directives_for_the_server_itself_are_left_out_with_a_warning() -> None:
    text = (
        "Options -Indexes\nDirectoryIndex a.php\nAddType text/x .x\n<IfModule mod_expires.c>\nExpiresActive On\n"
        "</IfModule>\nphp_value memory_limit 64M\nRewriteOptions AllowNoSlash\nErrorDocument 404 /404.html\n"
        "<IfModule !mod_authz_core.c>\nOrder deny,allow\n</IfModule>\n<IfModule mod_authz_core.c>\n"
        "Require all granted\n</IfModule>\n"
    )
    rules = parse(text.encode(), read)
    assert [line for line, _ in rules.warnings] == [1, 2, 3, 5, 7, 8, 9]
    assert rules.warnings[0] == (1, "Options is left out: it is about what the server does by itself")
    assert [access.require for access in rules.other.access] == [("any", (("granted",),))]


def test_maps_of_files_before_are_known() -> None:
    first = parse(b"RewriteMap words txt:m.txt", read)
    second = parse(b"RewriteEngine on\nRewriteRule ^a$ ${words:a}", read, first)
    assert second.maps == {"words": {"a": "b"}}


def test_what_the_gateway_or_the_server_does_by_itself_is_left_out_with_a_warning() -> None:
    text = (
        "Header set Connection close\nRequestHeader set X-Forwarded-Proto https\nAllowEncodedSlashes NoDecode\n"
        "SetHandler application/x-httpd-php\nH2Push off\n<Proxy balancer://app>\nBalancerMember http://10.0.0.1\n"
        "Require all granted\n</Proxy>\n<IfModule mod_php.c>\nphp_value a b\n</IfModule>\n"
        "RewriteMap low int:tolower\n<VirtualHost *>\nRewriteEngine on\nRewriteRule ^ ${low:a}\n</VirtualHost>\n"
    )
    found = dict(parse(text.encode(), read).warnings)
    assert {line: found[line].split(":")[0] for line in found} == {
        1: "Connection is left out",
        2: "X-Forwarded-Proto is left out",
        4: "SetHandler is left out",
        5: "H2Push is left out",
        6: "<Proxy> is left out",
        10: "<IfModule mod_php.c> is left out",
        16: "Apache finds RewriteMap low here only if it stands in this <VirtualHost>, or by RewriteOptions Inherit",
    }


@pytest.mark.parametrize("asked, holds", [
    (">= 2.4", True), ("< 2.4", False), ("2.4", False), ("= 2.4.71", True), ("> 2.4.6", True), ("<= 2.2", False),
    ("~ /^2\\.[45]/", True), ("!~ ^2", False), ("!< 2.4", True), ("/^3/", False),
])  # fmt: skip
def test_sections_for_versions(asked: str, *, holds: bool) -> None:
    found = parse(f"<IfVersion {asked}>\nRequire all denied\n</IfVersion>".encode(), read)
    assert bool(found.other.access) == holds
