"""Rules of Apache beside Apache itself: the same file, the same requests, the same fate."""

import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from gateway.config import ConfigError, load
from gateway.config.expectation import Assumption
from gateway.explain.asked import Asked
from gateway.explain.sandbox import Sandbox
from tests.support.apache import Apache, Fate, normal
from tests.support.programs import needs


@dataclass(frozen=True)
class Case:
    """A set of rules, where they stand, what exists, and requests: target, or (target, header lines, host)."""

    rules: str
    requests: Sequence[str | tuple[str, Sequence[str], str]]
    local: bool = True
    exists: Sequence[str] = field(default=())


WWW = "www.example.com"
USERS = "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nbert:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"
"""Both have the password "password"."""


def by_each_user(*targets: str) -> list[str | tuple[str, Sequence[str], str]]:
    """A request of each target without a user, by each user, and with a wrong password."""
    logins = [
        b64encode(text).decode() for text in (b"anna:password", b"bert:password", b"anna:wrong", b"cara:password")
    ]
    headers = [[], *([f"Authorization: Basic {text}"] for text in logins)]
    return [(target, lines, WWW) for target in targets for lines in headers]


LOGIN = "AuthType Basic\nAuthName x\nAuthUserFile {directory}/users\n"
SATISFY = {
    "either": LOGIN + "Require user anna\nOrder deny,allow\nDeny from all\nAllow from 10.0.0.0/8\nSatisfy Any\n",
    "near is enough": LOGIN + "Require user anna\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.1\nSatisfy Any\n",
    "only users": LOGIN + "Require user anna\n",
    "only denied": "Order deny,allow\nDeny from all\n",
    "both": LOGIN + "Require user anna\nOrder allow,deny\nAllow from 127.0.0.1\nSatisfy All\n",
}
INNER = {
    "all": "Satisfy All",
    "any": "Satisfy Any",
    "deny": "Order deny,allow\nDeny from all",
    "deny-any": "Order deny,allow\nDeny from all\nSatisfy Any",
    "granted": "Require all granted",
    "bert": "Require user bert",
    "bert-any": "Require user bert\nSatisfy Any",
    "denied-any": "Require all denied\nAllow from all\nSatisfy Any",
    "allow-all": "Allow from all\nSatisfy All",
}
"""Lines of a section within those of SATISFY."""
CASES = {
    **{
        f"satisfy, {name}": Case(
            outer
            + "".join(
                f'<Files "{file}.txt">\n{lines}\n</Files>\n'
                for file, lines in INNER.items()
                if "bert" not in file or "Auth" in outer
            ),
            by_each_user("/", *(f"/{file}.txt" for file in INNER)),
            exists=[f"/{file}.txt" for file in INNER],
        )
        for name, outer in SATISFY.items()
    },
    "sections after rewriting": Case(
        """\
RewriteEngine On
RewriteRule ^/closed/in(.*)$ /open/x$1 [L]
RewriteRule ^/hidden/in(.*)$ /open/x$1 [PT]
RewriteRule ^/to-closed$ /closed/x [L]
RewriteRule ^/to-hidden$ /hidden/x [PT]
RewriteRule ^/to-secret$ /secret.txt [L]
RewriteRule ^/secret.txt$ /open/y [L]
RewriteRule ^/to-deep$ /deep/x [L]
RewriteRule ^/deep/in$ /open/z [L]
<Location /closed>
Require all denied
</Location>
<Location /hidden>
Require all denied
</Location>
<Directory /var/www/html/deep>
Require all denied
</Directory>
<Files secret.txt>
Require all denied
</Files>
<Location /to-secret>
Header always set X-T-Asked to-secret
</Location>
<Location /secret.txt>
Header always set X-T-Asked secret
</Location>
<If "%{REQUEST_URI} == '/to-deep'">
Header always set X-T-If yes
</If>
""",
        [
            *(
                "/closed/in",
                "/closed/x",
                "/hidden/in",
                "/hidden/x",
                "/to-closed",
                "/to-hidden",
                "/to-secret",
                "/secret.txt",
            ),
            *("/to-deep", "/deep/in", "/deep/x", "/open/x"),
        ],
        local=False,
        exists=["/open/x", "/open/y", "/open/z", "/closed/x", "/hidden/x", "/deep/x", "/secret.txt"],
    ),
    "addresses and names of fields": Case(
        """\
RewriteEngine On
RewriteCond %{SERVER_ADDR} =127.0.0.1
RewriteRule ^/here$ /yes [L]
RewriteCond %{SERVER_ADDR}%{REMOTE_ADDR} !^127\\.0\\.0\\.1127
RewriteRule ^/there$ /no [L]
SetEnvIf Server_Addr ^127\\. LOCAL
SetEnvIf Remote_Host ^127\\. NEAR
SetEnvIfNoCase ^x-(one|two)$ (.+) FOUND=$1
SetEnvIf ^X-Up[a-z]+$ (.+) UPPER=$1
Header set X-T-Local yes env=LOCAL
Header set X-T-Near yes env=NEAR
Header set X-T-Found "%{FOUND}e" env=FOUND
Header set X-T-Upper "%{UPPER}e" env=UPPER
""".replace("\\\\", "\\"),
        [
            *("/here", "/there", "/other"),
            ("/", ["X-One: 1", "X-Two: 2"], WWW),
            ("/", ["x-two: 2", "x-upper: u"], WWW),
            ("/", ["X-Upper: u", "X-Three: 3"], WWW),
        ],
        local=False,
    ),
    "logins": Case(
        """\
AuthType Basic
AuthName "Staff only"
AuthBasicProvider file
AuthUserFile {directory}/users
Require valid-user
<Files "anna.txt">
Require user anna
</Files>
<Files "public.txt">
Require all granted
</Files>
<Files "either.txt">
<RequireAny>
Require ip 10.0.0.0/8
Require user bert
</RequireAny>
</Files>
<Files "both.txt">
<RequireAll>
Require local
Require user anna bert
Require user bert
</RequireAll>
</Files>
<Files "never.txt">
<RequireAll>
Require ip 10.0.0.0/8
Require valid-user
</RequireAll>
</Files>
<Files "near.txt">
Require local
Require valid-user
</Files>
RewriteEngine On
RewriteRule ^rewritten$ anna.txt
RewriteRule ^from-public.txt$ public.txt
Redirect /moved http://other.example/
""",
        by_each_user(
            *("/", "/anna.txt", "/public.txt", "/either.txt", "/both.txt", "/never.txt", "/near.txt"),
            *("/rewritten", "/from-public.txt", "/moved"),
        ),
        exists=["/anna.txt", "/public.txt", "/either.txt", "/both.txt", "/never.txt", "/near.txt"],
    ),
    "the deepest directory decides, wherever it stands": Case(
        """\
<Location /a/b/c/d>
Require all denied
</Location>
<Directory /var/www/html/a/b>
Require all granted
</Directory>
<Directory /var/www/html/a>
Require all denied
</Directory>
<Directory /var/www/html>
Require all granted
</Directory>
<Directory />
Require all denied
</Directory>
<Location /twice>
Require all granted
</Location>
<Location /twice>
Require all denied
</Location>
<Directory /var/www/html/a/b/c>
Require user anna
AuthType Basic
AuthName x
AuthUserFile {directory}/users
</Directory>
""",
        by_each_user("/a/x", "/a/b/x", "/a/b/c/x", "/a/b/c/d/x", "/x", "/twice"),
        local=False,
        exists=["/a/b/c/d/"],
    ),
    "logins of a server": Case(
        """\
<Location /admin>
AuthType Basic
AuthName Administration
AuthUserFile {directory}/users
Require user anna
</Location>
<Location /admin/open>
Require all granted
</Location>
<Location /admin/books>
Require user bert
</Location>
<Location /admin/form>
<Limit POST>
Require user bert
</Limit>
</Location>
<Location /elsewhere>
Require user anna
</Location>
RewriteEngine On
RewriteRule ^/to-admin$ /admin/x [PT]
""",
        by_each_user(
            "/", "/admin", "/admin/x", "/administrators", "/admin/open/x", "/admin/books/1", "/to-admin", "/elsewhere"
        ),
        local=False,
    ),
    "a login or an address": Case(
        """\
AuthType Basic
AuthName x
AuthUserFile {directory}/users
Order deny,allow
Deny from all
Allow from 10.0.0.0/8
Require user anna
Satisfy Any
""",
        by_each_user("/a"),
    ),
    "an address is enough": Case(
        """\
AuthType Basic
AuthName x
AuthUserFile {directory}/users
Order deny,allow
Deny from all
Allow from 127.0.0.1
Require user anna
Satisfy Any
""",
        by_each_user("/a"),
    ),
    "a login and an address": Case(
        """\
AuthType Basic
AuthName x
AuthUserFile {directory}/users
Order deny,allow
Deny from all
Allow from 10.0.0.0/8
Require user anna
""",
        by_each_user("/a"),
    ),
    "one script, guarded": Case(
        """\
<IfModule mod_rewrite.c>
RewriteEngine On
RewriteBase /
RewriteRule ^ - [E=SENT_LOGIN:%{HTTP:Authorization}]
RewriteRule ^index\\.php$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /index.php [L]
</IfModule>
""",
        [
            "/",
            "/index.php",
            "/hello",
            "/hello/world?page=2",
            "/style.css",
            "/img/",
            "/img/a.png",
            "/img/b.png",
            "/a%20b",
        ],
        exists=["/index.php", "/style.css", "/img/a.png"],
    ),
    "scripts that moved": Case(
        """\
RewriteEngine on
RewriteRule ^\\.(?!well-known/) - [F]
RewriteCond %{HTTP_HOST} ^shop\\.example$ [NC]
RewriteRule ^(.*)$ http://www.shop.example/$1 [R=301,L]
RewriteCond %{REQUEST_URI} ^(.*)/(setup\\.php)$ [OR]
RewriteCond %{REQUEST_URI} ^(.*)/(reindex\\.php)$
RewriteCond %{REQUEST_URI} !/engine/
RewriteRule ^ %1/engine/%2 [R=301,QSA,L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_URI} !=/icon.svg
RewriteRule ^ main.php [L]
RewriteRule ^(?:.+/.+|loader)\\.php(?:/|$) - [F]
""",
        [
            "/",
            "/page/1?x=y",
            "/.hg/store",
            "/.well-known/acme",
            "/setup.php",
            "/sub/setup.php?a=b",
            "/engine/setup.php",
            "/icon.svg",
            ("/a/b?c", [], "shop.example"),
            ("/a", [], "SHOP.example"),
            "/reindex.php",
        ],
        exists=["/main.php", "/icon.svg"],
    ),
    "names that are looked ahead for": Case(
        """\
RewriteEngine on
RewriteCond %{HTTP_USER_AGENT} Folder-Client
RewriteRule ^$ /dav.php/home/ [R=302,L]
RewriteRule ^ - [env=SENT_LOGIN:%{HTTP:Authorization}]
RewriteRule ^\\.well-known/ca(rd|l)dav /dav.php/$1/ [L,R=301]
RewriteRule ^far/(.*) dav.php [QSA,L]
RewriteRule ^(?:settings|sources|checks)/ - [L,R=404]
RewriteRule ^\\.well-known/(?!acme-|change-) /start.php [L,QSA]
RewriteRule ^partners/?$ start.php [L,QSA]
RewriteRule ^(?:\\.(?!well-known)|tables_|job\\b|tool-).* - [L,R=404]
""",
        [
            "/",
            ("/", ["User-Agent: Some Folder-Client/2"], WWW),
            "/.well-known/carddav",
            "/.well-known/caldav?x=1",
            "/far/dav?a=b",
            "/settings/main.php",
            "/.well-known/webfinger?resource=a",
            "/.well-known/acme-challenge/x",
            "/.htaccess2",
            "/job",
            "/tool-x.php",
            "/partners",
            "/partners/",
            "/apps/files",
        ],
        exists=["/dav.php", "/start.php"],
    ),
    "canonical": Case(
        """\
RewriteEngine On
RewriteCond %{HTTP_HOST} !^www\\. [NC]
RewriteCond %{HTTP_HOST} ^(.+)$
RewriteRule ^(.*)$ http://www.%1$1 [R=301,L]
""",
        [
            "/a?b=c",
            ("/a?b=c", [], "example.com"),
            ("/a%20b/%C3%A9?x=%20y", [], "shop.example.com:8080"),
            ("/", [], "WWW.x"),
        ],
        local=False,
    ),
    "https": Case(
        """\
RewriteEngine On
RewriteCond %{HTTPS} off
RewriteCond %{HTTP:X-No-Redirect} !=1
RewriteRule ^/?(.*) https://%{SERVER_NAME}/$1 [R=308,L]
RewriteCond %{HTTPS} on
RewriteRule ^ /never
""",
        [
            "/a?b",
            ("/a", ["X-No-Redirect: 1"], WWW),
            ("/a", ["X-No-Redirect: 0"], "x.example:81"),
            ("/a%3Fb", [], WWW),
            ("/a%0Ab", [], WWW),
        ],
        local=False,
    ),
    "slashes": Case(
        """\
RewriteEngine On
RewriteBase /
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule ^(.+)/$ /$1 [R=301,L]
RewriteCond %{REQUEST_FILENAME} -d
RewriteRule [^/]$ %{REQUEST_URI}/ [R=302,L]
""",
        ["/a/", "/a/?x=y", "/dir", "/dir/", "/a", "/", "/a%20b/"],
        exists=["/dir/x"],
    ),
    "queries": Case(
        """\
RewriteEngine On
RewriteRule ^/qsa$ /t?n=1 [QSA,L]
RewriteRule ^/qsd$ /t [QSD,L]
RewriteRule ^/new$ /t?n=1 [L]
RewriteRule ^/gone$ /t? [L]
RewriteRule ^/b/(.*)$ /t?q=$1 [B,L]
RewriteRule ^/bs/(.*)$ /t?q=$1 [B=&,L]
RewriteRule ^/bnp/(.*)$ /t?q=$1 [B,BNP,L]
RewriteRule ^/rq/(.*)$ /t?q=$1 [R,L]
RewriteRule ^/ne/(.*)$ /t#$1 [R,NE,L]
RewriteRule ^/e/(.*)$ /t#$1 [R,L]
RewriteRule ^/qsl/(.*)$ /$1?z=1 [QSL,L]
RewriteCond %{QUERY_STRING} (?:^|&)id=([0-9]+)(?:&|$)
RewriteRule ^/item$ /item/%1? [R=301,L]
RewriteRule ^/keep$ /kept [R=301,L]
RewriteRule ^/3f/(.*)$ /x/$1 [L]
RewriteRule ^/3fa/(.*)$ /x/$1 [UnsafeAllow3F,L]
""",
        [
            "/qsa",
            "/qsa?a=b",
            "/qsd?a=b",
            "/new?a=b",
            "/gone?a=b",
            "/b/x%20y%26z=1",
            "/bs/x&y%2Bz",
            "/bnp/x%20y",
            "/rq/a%20b",
            "/ne/x-y",
            "/e/x",
            "/item?id=7",
            "/item?a=b&id=77&c",
            "/item?id=x",
            "/keep?a=%20b",
            "/3f/a%3Fb",
            "/3fa/a%3Fb",
            "/3f/ab?c",
            "/none?x",
        ],
        local=False,
    ),
    "conditions": Case(
        """\
RewriteEngine On
RewriteCond %{REQUEST_METHOD} ^POST$ [OR]
RewriteCond %{QUERY_STRING} ^a$ [OR]
RewriteCond %{QUERY_STRING} ^b$
RewriteCond %{HTTP_COOKIE} !(^|;\\s*)no=
RewriteRule ^/or$ /or-yes [L]
RewriteCond %{HTTP:X-Number} -ge10
RewriteCond %{HTTP:X-Number} -lt20
RewriteRule ^/number$ /number-yes [L]
RewriteCond %{HTTP:X-Word} >=m
RewriteCond %{HTTP:X-Word} <p
RewriteRule ^/word$ /word-yes [L]
RewriteCond %{HTTP:X-Word} =MORE [NC]
RewriteRule ^/same$ /same-yes [L]
RewriteCond %{HTTP:X-Word} =""
RewriteRule ^/same$ /same-empty [L]
RewriteCond $1-%{REQUEST_URI} ^([a-z]+)-/back/([a-z]+)/\\1
RewriteRule ^/never$ /back-never
RewriteCond $1:%{HTTP_HOST} ^(.)(.*):www
RewriteRule ^/back/(.*)$ /b/%2%1/$1 [L]
RewriteCond %{THE_REQUEST} "^GET /req%20x\\?y HTTP/1\\.1$"
RewriteRule ^ /request-yes [L]
RewriteRule !^/(or|same|word|number|back|other|request) /not-$0 [L]
RewriteRule ^/OTHER$ /nc [NC,L]
""".replace("RewriteCond $1-%{REQUEST_URI} ^([a-z]+)-/back/([a-z]+)/\\1\nRewriteRule ^/never$ /back-never\n", ""),
        [
            "/or?a",
            "/or?b",
            "/or",
            ("/or?a", ["Cookie: x=y; no=1"], WWW),
            ("/number", ["X-Number: 10"], WWW),
            ("/number", ["X-Number: 9"], WWW),
            ("/number", ["X-Number: 20"], WWW),
            ("/number", ["X-Number: 19x"], WWW),
            "/number",
            ("/word", ["X-Word: more"], WWW),
            ("/word", ["X-Word: p"], WWW),
            ("/word", ["X-Word: lamb"], WWW),
            ("/same", ["X-Word: more"], WWW),
            "/same",
            ("/same", ["X-Word: x"], WWW),
            "/back/abc",
            "/req%20x?y",
            "/other",
            "/zzz",
        ],
        local=False,
    ),
    "flow": Case(
        """\
RewriteEngine On
RewriteRule ^/c(.*)$ /d$1 [C]
RewriteRule ^/d/yes(.*)$ /chained$1 [C]
RewriteRule ^/chained/x$ /chained/end
RewriteRule ^/s/ - [S=1]
RewriteRule ^/(.*)$ /unskipped/$1 [C]
RewriteRule ^/unskipped/chained(.*)$ /chained$1
RewriteRule ^/(s|unskipped)/n(.*)-(.*)$ /$1/n$2_$3 [N=5]
RewriteRule ^/unskipped/forbidden$ - [F]
RewriteRule ^/unskipped/gone$ - [G]
RewriteRule ^/unskipped/(4[0-9]+)$ - [R=451]
RewriteRule ^/unskipped/end$ /ended [END]
RewriteRule ^/ended$ /never
RewriteRule ^/unskipped/red$ /target [R=303]
RewriteRule target$ /%{HTTP_HOST}/$0 [R=307,L]
RewriteRule ^/unskipped/abs$ http://other.example/x [L]
RewriteRule ^/unskipped/self$ http://www.example.com/own [L]
RewriteRule ^/unskipped/pt$ /passed [PT]
RewriteRule ^/passed /never
RewriteRule ^/unskipped/env$ - [E=A:1,E=B:x$0,E=!A]
RewriteCond %{ENV:A}%{ENV:B} ^x(.*)$
RewriteRule ^ /env%1 [L]
""",
        [
            "/cx",
            "/c/yes",
            "/c/yes/x",
            "/s/",
            "/s/a",
            "/forbidden",
            "/gone",
            "/404",
            "/end",
            "/red",
            "/abs",
            "/self",
            "/pt",
            "/env",
            "/other",
            "/s/n-",
            "/na-b-c",
        ],
        local=False,
    ),
    "rounds": Case(
        """\
RewriteEngine On
RewriteBase /
RewriteRule ^a$ b
RewriteRule ^b$ c [L]
RewriteRule ^c$ d [L]
RewriteRule ^e$ f [END]
RewriteRule ^f$ g [L]
RewriteRule ^loop$ loop2 [L]
RewriteRule ^loop2$ loop [L]
RewriteRule ^same$ same [L]
RewriteRule ^arg$ arg?x=1 [L]
RewriteRule ^grow(.*)$ growx$1 [N]
RewriteRule ^once/(.*)$ /twice/$1 [E=V:1]
RewriteCond %{ENV:REDIRECT_V} =1
RewriteRule ^twice/(.*)$ /thrice/$1 [L]
""",
        ["/a", "/b", "/e", "/f", "/loop", "/same", "/arg?y=2", "/once/x", "/twice/x"],
        exists=["/once/", "/twice/", "/thrice/"],
    ),
    "target outside": Case(
        """\
RewriteEngine On
RewriteRule ^(.*)$ /index.php [L]
""",
        ["/", "/a", "/index.php"],
        exists=["/index.php"],
    ),
    "back references": Case(
        """\
RewriteEngine On
RewriteCond <$1>%{REQUEST_URI} ^<([^>]*)>(/.+)/\\1$
RewriteRule ^(.*) - [E=PREFIX:%2]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^ %{ENV:PREFIX}/index.php [L]
""",
        ["/", "/a/b?c", "/a/b/c", "/index.php"],
        exists=["/index.php"],
    ),
    "root in substitution": Case(
        """\
RewriteEngine On
RewriteRule ^/?wiki(/.*)?$ %{DOCUMENT_ROOT}/w/index.php [L]
RewriteRule ^/?(LA|la)/(.*)$ - [C]
RewriteCond %{LA-F:REQUEST_FILENAME} -f
RewriteRule ^ /there?%{LA-U:REQUEST_METHOD} [L]
RewriteCond %{SERVER_NAME} =www.example.com
RewriteRule ^/private - [F]
RewriteCond %{QUERY_STRING} ([a-z0-9]{2000,}) [NC]
RewriteRule ^ - [F]
""",
        [
            "/wiki",
            "/wiki/Page?action=edit",
            "/other",
            "/LA/x",
            ("/private", [], "WWW.Example.com"),
            ("/private", [], "www.example.com."),
            ("/private", [], "other.example"),
            "/x?short",
            "/x?" + "a" * 1999,
            "/x?" + "aB1" * 667,
        ],
        local=False,
        exists=["/w/index.php"],
    ),
    "question marks": Case(
        """\
RewriteEngine On
RewriteRule ^v$ /x%{HTTP:X-Mark} [L]
RewriteRule ^esc/(.*)$ item/$1 [B,L]
RewriteRule ^plain/(.*)$ item/$1 [L]
RewriteRule ^ext/(.*)$ /ext.php/$1 [R=302,L]
RewriteRule ^item/ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^(.*)$ front.php?title=$1 [L,QSA]
""",
        [
            "/Who%3F",
            "/Who%3F?x=1",
            "/Plain",
            "/v",
            ("/v", ["X-Mark: ?b"], WWW),
            "/esc/a%26b",
            "/esc/a.b-c",
            "/esc/a%20b",
            "/esc/%C3%A9",
            "/esc/100%25",
            "/esc/a%3Fb",
            "/plain/a%26b",
            "/plain/a%20b",
            "/plain/100%25",
            "/plain/a%2541",
            "/plain/a%3Fb",
            "/ext/a%3Fb",
            "/ext/a%25b",
        ],
        exists=["/front.php", "/item/x"],
    ),
    "files with slashes": Case(
        """\
RewriteEngine On
RewriteCond %{QUERY_STRING} ^$
RewriteCond %{DOCUMENT_ROOT}/cache/%{HTTP_HOST}/$1/index.html -f
RewriteRule ^(.*) /cache/%{HTTP_HOST}/$1/index.html [L]
RewriteCond %{DOCUMENT_ROOT} -d
RewriteCond %{DOCUMENT_ROOT} !-f
RewriteRule ^x$ yes [L]
""",
        ["/post/", "/post", "/", "/none/", "/x", "/yes"],
        exists=["/cache/www.example.com/post/index.html", "/cache/www.example.com/index.html"],
    ),
    "lexical": Case(
        """\
RewriteEngine On
RewriteCond %{QUERY_STRING} >=b [NC]
RewriteRule ^/ge$ /hit [L]
RewriteCond %{QUERY_STRING} <=b [NC]
RewriteRule ^/le$ /hit [L]
RewriteCond %{QUERY_STRING} <b [NC]
RewriteRule ^/lt$ /hit [L]
RewriteCond %{QUERY_STRING} >b [NC]
RewriteRule ^/gt$ /hit [L]
RewriteCond %{QUERY_STRING} >b
RewriteRule ^/gtc$ /hit [L]
""",
        [
            f"/{name}?{value}"
            for name in ("ge", "le", "lt", "gt", "gtc")
            for value in ("A", "a", "B", "b", "C", "c", "aa")
        ],
        local=False,
    ),
    "looking around": Case(
        """\
RewriteEngine On
RewriteRule \\.(?!css|js)[a-z]+$ /other [L]
RewriteRule ^/b/(?!.*\\.php$).*$ /nophp [L]
RewriteRule ^/v/(.*)A(.*)$ /v/$1a$2 [N=3]
""",
        ["/x.css", "/x.htm", "/b/x", "/b/x.php", "/v/xA", "/v/xAA", "/v/xAAA"],
        local=False,
    ),
    "guard by status": Case(
        """\
RewriteEngine On
RewriteCond %{ENV:REDIRECT_STATUS} ^2[0-9]+$
RewriteRule ^ - [L]
RewriteRule ^(.*)$ sub/$1 [L]
""",
        ["/", "/a?b=c", "/sub/x"],
        exists=["/sub/x"],
    ),
    "rules before the engine": Case(
        """\
RewriteRule ^early$ target1 [L]
RewriteEngine On
RewriteRule ^late$ target2 [L]
""",
        ["/early", "/late", "/other"],
    ),
    "path behind a script": Case(
        """\
RewriteEngine On
RewriteBase /
RewriteRule ^info/ info.php?p=%{PATH_INFO} [L]
RewriteRule ^info.php - [L]
RewriteRule ^discard.php/ /target [DPI,L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule ^(.*)$ index.php/$1 [L]
""",
        ["/blog/1", "/", "/index.php/x?y", "/api/index.php/v1/items", "/api/index.php", "/info/a/b", "/a/b/c"],
        exists=["/index.php", "/api/index.php", "/info.php"],
    ),
    "two rules and a path behind": Case(
        """\
RewriteEngine On
RewriteRule ^one/(.*)$ two/$1
RewriteRule ^two/(.*)$ three/$1
""",
        ["/one/x", "/one/x/y", "/one/d/e"],
        exists=["/one/x", "/one/d/z", "/two/x"],
    ),
    "types": Case(
        """\
RewriteEngine On
RewriteRule ^a\\.foo$ b.foo [T=text/plain,L]
""",
        ["/a.foo", "/b.foo"],
        exists=["/b.foo"],
    ),
    "map values with a query": Case(
        """\
RewriteEngine on
RewriteMap words txt:{map}
RewriteRule ^/m/(.*)$ ${{words:$1}} [R=301,L]
RewriteRule ^/n/(.*)$ ${{words:$1}} [R=301,L,UnsafeAllow3F]
RewriteCond ${{words:%{{QUERY_STRING}}}} ^(.+)$
RewriteRule ^/q$ %1 [R=301,L]
""",
        ["/m/moved", "/m/page", "/n/moved", "/q?moved", "/q?page", "/q?none"],
        local=False,
    ),
    "redirects": Case(
        """\
Redirect /old http://other.example/new
Redirect permanent /perm /here
Redirect 303 /see/ https://other.example/
Redirect gone /gone
Redirect 404 /hidden
RedirectPermanent /rp http://other.example/rp
RedirectMatch 301 ^/blog/([0-9]+)/(.*)$ http://blog.example/$2?year=$1
RedirectMatch (.*)\\.gif$ $1.png
RedirectMatch 410 \\.bak$
""",
        [
            "/old",
            "/old/a%20b?c=d",
            "/older",
            "/perm/x",
            "/see",
            "/see/x?y",
            "/gone",
            "/gone/x",
            "/hidden",
            "/rp",
            "/blog/2020/a/b?q",
            "/img/a%20b.gif",
            "/x.bak",
            "/other",
        ],
    ),
    "redirects of a server": Case(
        """\
RewriteEngine On
RewriteRule ^/rewritten /old [L]
RewriteRule ^/passed /old [PT]
Redirect /old http://other.example/new
<Location /closed>
Require all denied
</Location>
<Directory /var/www/html>
RewriteEngine On
RewriteRule ^inner$ /closed/x [L]
RewriteRule ^moved$ /to [R=301]
</Directory>
""",
        ["/rewritten", "/passed", "/old/x", "/closed", "/closed/x", "/closedx", "/inner", "/moved", "/other"],
        local=False,
    ),
    "redirects beside rewriting": Case(
        """\
RewriteEngine On
RewriteRule ^a$ b [L]
RewriteRule ^c$ http://first.example/ [R]
RewriteRule ^old$ new [L]
Redirect /b http://other.example/b
Redirect /c http://second.example/
Redirect /old http://other.example/old
""",
        ["/a", "/b", "/c", "/old", "/new"],
    ),
    "access": Case(
        """\
<FilesMatch "^\\.|\\.(bak|sql|inc)$">
Require all denied
</FilesMatch>
<Files "config.php">
Order allow,deny
Deny from all
</Files>
<Files ~ "\\.(log|LOG)$">
Require all denied
</Files>
<Files "open*.log">
Require all granted
</Files>
<Limit POST PUT>
Require all denied
</Limit>
SetEnvIfNoCase User-Agent "greedy|evil" unwanted
SetEnvIf Request_URI "^/internal" internal=yes
<RequireAll>
Require all granted
Require not env unwanted
Require not env internal
</RequireAll>
""",
        [
            "/",
            "/.htpasswd",
            "/a/dump.sql",
            "/config.php",
            "/config.php.txt",
            "/x.log",
            "/open1.log",
            ("/", ["User-Agent: EvilCrawler"], WWW),
            "/internal/x",
        ],
        exists=["/config.php", "/x.log", "/open1.log", "/a/dump.sql"],
    ),
    "access by order": Case(
        """\
SetEnvIf Referer "spam\\." spammer
Order Deny,Allow
Deny from env=spammer
Deny from 192.0.2
Allow from 127.0.0.1
<Files "denied.html">
Order Allow,Deny
Allow from all
Deny from 127.0.0.0/8
</Files>
<Files "either.html">
Order Deny,Allow
Deny from all
Allow from 127.0.0
</Files>
""",
        ["/", ("/", ["Referer: http://spam.example"], WWW), "/denied.html", "/either.html"],
        exists=["/denied.html", "/either.html"],
    ),
    "conditions by If": Case(
        """\
<If "%{HTTP_HOST} == 'closed.example' && %{REQUEST_URI} !~ m#^/open#">
Require all denied
</If>
<If "%{QUERY_STRING} =~ /(^|&)x=[0-9]+/i">
Header set X-T-If yes
Redirect 404 /numbers
</If>
<If "-n req('X') || %{REQUEST_METHOD} in {'POST'}">
Require all denied
</If>
""".replace("-n req('X') || ", ""),
        [
            ("/", [], "closed.example"),
            ("/open", [], "closed.example"),
            "/",
            "/?x=1",
            "/?X=1",
            "/?x=a",
            "/numbers?a&x=22",
        ],
    ),
    "header fields": Case(
        """\
SetEnvIf Origin "^http.*//(?:[a-z]+\\.)?example\\.com$" ORIGIN=$0
Header set X-T-Origin "%{ORIGIN}e" env=ORIGIN
Header always set X-T-Always "a b"
Header add X-T-Two one
Header add X-T-Two two
Header set X-T-Gone x
Header unset X-T-Gone
Header append X-T-App first
Header setifempty X-T-Empty filled
Header set X-T-Empty2 here
Header setifempty X-T-Empty2 filled
Header set X-T-Edit "abcabc"
Header edit X-T-Edit b(c) <$1>
Header set X-T-Every "abcabc"
Header edit* X-T-Every b x
<FilesMatch "\\.(css|js)$">
Header set X-T-Static 100%%
</FilesMatch>
Redirect /moved http://other.example/
""",
        [
            "/",
            ("/", ["Origin: https://a.example.com"], WWW),
            ("/", ["Origin: https://a.example.org"], WWW),
            "/a.css",
            "/moved",
        ],
        exists=["/a.css"],
    ),
    "variables of rules": Case(
        """\
RewriteEngine On
RewriteRule ^/v/(.*)$ - [E=FOUND:$1]
RewriteCond expr "%{REQUEST_URI} =~ /secret/ && ! -z %{QUERY_STRING}"
RewriteRule ^ - [F]
Header set X-T-Found "%{FOUND}e" env=FOUND
BrowserMatch "Old" old gzip=no
Header set X-T-Old yes env=old
Header set X-T-New yes env=!old
""",
        ["/v/x", "/secret", "/secret?a", ("/", ["User-Agent: Old/1"], WWW)],
        local=False,
    ),
    "cookies": Case(
        """\
RewriteEngine On
RewriteRule ^/one$ - [CO=a:b:.example.com]
RewriteRule ^/two$ /t [CO=a:$0:.example.com:0:/p:secure:httponly:lax,R]
""",
        ["/one", "/two", "/none"],
        local=False,
    ),
    "maps": Case(
        """\
RewriteEngine on
RewriteMap words txt:{map}
RewriteMap any rnd:{map}
RewriteMap low int:tolower
RewriteMap up int:toupper
RewriteMap esc int:escape
RewriteMap unesc int:unescape
RewriteRule ^/w/([^/]+)$ /found/${{words:$1|none}} [L]
RewriteRule ^/n/([^/]+)$ /found/${{words:$1}}x [L]
RewriteRule ^/l/(.*)$ /${{low:$1}}/${{up:$1}} [L]
RewriteRule ^/d/(.*)$ /${{words:${{low:$1}}|${{up:$1}}}} [L]
RewriteRule ^/e/(.*)$ /x?${{esc:$1}} [L]
RewriteRule ^/u/(.*)$ /x?${{unesc:%{{QUERY_STRING}}}} [L]
RewriteRule ^/r$ /${{any:one}} [L]
""",
        ["/w/red", "/w/blue", "/w/zz", "/n/zz", "/l/AbC", "/d/RED", "/d/Zz", "/e/a%20b", "/u/x?a%20b", "/r"],
        local=False,
    ),
}
CASES |= {
    "programs of maps": Case(
        """\
RewriteEngine on
RewriteMap said "prg:{directory}/words.sh of"
RewriteRule ^/p/(.*)$ /found/${said:$1|none} [L]
RewriteRule ^/q/(.*)$ /found/${said:$1}x [L]
RewriteCond ${said:%{QUERY_STRING}|none} =rot-of
RewriteRule ^/c$ /found/cond [L]
""",
        ["/p/red", "/p/blue", "/p/zz", "/q/zz", "/q/empty", "/p/empty", "/p/red%0Ablue", "/p/null", "/c?red", "/c?x"],
        local=False,
    ),
    "named groups of sections": Case(
        """\
<LocationMatch "^/t/(?<tenant>[a-z]+)(?:/(?<page>[0-9]+))?">
Header set X-T-Tenant "%{MATCH_TENANT}e"
Header set X-T-Page "%{MATCH_PAGE}e" env=MATCH_PAGE
</LocationMatch>
<FilesMatch "^(?<stem>[a-z]+)(?<!x)\\.(?:css|js)$">
Header set X-T-Stem "%{MATCH_STEM}e"
</FilesMatch>
<DirectoryMatch "^/var/www/html/(?<site>[a-z]+)/">
Header set X-T-Site "%{MATCH_SITE}e"
</DirectoryMatch>
RewriteEngine on
RewriteCond %{ENV:MATCH_TENANT} =beta
RewriteRule ^ - [F]
""",
        ["/t/acme", "/t/acme/7", "/t/beta/7", "/shop/a.css", "/shop/ax.css", "/shop/a.txt", "/a.js"],
        local=False,
        exists=["/shop/a.css", "/shop/ax.css", "/shop/a.txt", "/a.js"],
    ),
    "sections of directories by patterns": Case(
        """\
<DirectoryMatch "/(?:private|\\.git)(?:/|$)">
Require all denied
</DirectoryMatch>
<Directory /var/www/html/private/open>
Require all granted
</Directory>
""",
        ["/private/a", "/x/private/a", "/.git/config", "/privates/a", "/private/open/a"],
        local=False,
        exists=["/private/a", "/x/private/a", "/.git/config", "/privates/a", "/private/open/a"],
    ),
    "encoded slashes": Case(
        """\
AllowEncodedSlashes On
RewriteEngine on
RewriteRule ^/a/(.*)$ /found/$1 [L]
RewriteRule ^/b/x/y$ - [F]
RewriteRule ^/c/(.*)$ http://other.example/$1 [R]
""",
        ["/a/x%2Fy", "/a/x%2fy%20z", "/b/x%2Fy", "/b%2Fx%2Fy", "/c/x%2Fy", "/d/x%2Fy"],
        local=False,
    ),
    "encoded slashes that stay": Case(
        """\
AllowEncodedSlashes NoDecode
RewriteEngine on
RewriteRule ^/b/x%2Fy$ - [F]
RewriteRule ^/b/x/y$ - [G]
RewriteRule ^/c/(.*)$ http://other.example/$1 [R,NE]
""",
        ["/b/x%2Fy", "/b/x/y", "/c/x%2Fy"],
        local=False,
    ),
    "no encoded slashes": Case(
        "RewriteEngine on\nRewriteRule ^/b/x%2Fy$ - [F]\nRewriteRule ^/b/x/y$ - [G]\n",
        ["/b/x%2Fy", "/b/x/y"],
        local=False,
    ),
}
PROGRAM = """\
#!/bin/sh
while IFS= read -r key
do
  case "$key" in
    red) echo "rot-$1";;
    blue) echo blau;;
    empty) echo;;
    null) echo null;;
    *) echo NULL;;
  esac
done
"""
SAID = {"red": "rot-of", "blue": "blau", "empty": ""}
"""The same, of keys that it has a value for."""
MAP = "# colours\nmoved /x?y=1\npage /x\nred rot\nblue blau  # comment\none eins\n"


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    """Not in pytest's own directory: each session that begins closes that to others, and Apache gives up being root."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "words.map").write_text(MAP)
        (directory / "users").write_text(USERS)
        (directory / "words.sh").write_text(PROGRAM)
        sets = {name: (rules(name, directory), case.local, case.exists) for name, case in CASES.items()}
        with Apache(directory, sets) as process:
            yield process


def rules(name: str, directory: Path) -> str:
    text = CASES[name].rules
    made = text.format(map=directory / "words.map") if "{map}" in text else text
    return made.replace("{directory}", str(directory))


def sandbox(directory: Path, name: str) -> Sandbox:
    case = CASES[name]
    (directory / "words.map").write_text(MAP)
    (directory / "users").write_text(USERS)
    (directory / "words.sh").write_text(PROGRAM)
    (directory / "words.sh").chmod(0o755)
    (directory / "rules.txt").write_text(rules(name, directory))
    slashes = "encoded slashes" in name
    (directory / "site.yaml").write_text(
        f'frontends: [{{listen: "127.0.0.1:80", encoded_slashes: {str(slashes).lower()}}}]\n'
        'backends: {app: {servers: ["127.0.0.1:1"]}}\nroutes:\n'
        f"  - apache: {{file: rules.txt, context: {'directory' if case.local else 'server'}, exists: {list(case.exists)}}}\n"
        "  - backend: app\n"
    )
    made = Sandbox(load(directory / "site.yaml"))
    made.assume(Assumption(programs={"said": SAID}))
    return made


def ours(found: Sandbox, target: str, headers: Sequence[str], host: str) -> Fate:
    fields = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in headers))
    result = found.decide(Asked("GET", "http", host, target, fields, "127.0.0.1"))
    if "refused" in result:
        return Fate("status", result["refused"][0])
    lines = result.get("lines") or (result.get("edits") or {}).get("with", "")
    cookies = tuple(
        line.split(":", 1)[1].strip().lower() for line in lines.splitlines() if line.lower().startswith("set-cookie")
    )
    marked = tuple(sorted(line.lower() for line in lines.splitlines() if line.lower().startswith("x-t-")))
    if result["outcome"] == "backend":
        path, _, query = result["head"].split(" ")[1].partition("?")
        return Fate("to", 200, unquote_to_bytes(path), unquote_to_bytes(query), cookies, marked)
    if result["status"] in range(300, 400):
        location = next(line for line in result["lines"].splitlines() if line.startswith("Location:"))
        return Fate("redirect", result["status"], normal(location[10:]), b"", cookies, marked)
    return Fate("status", result["status"], cookies=cookies, fields=marked)


@needs("apache2")
@pytest.mark.parametrize("name", CASES)
def test_the_same_fate_as_with_apache(apache: Apache, tmp_path: Path, name: str) -> None:
    differ = []
    with sandbox(tmp_path, name) as found:
        for request in CASES[name].requests:
            target, headers, host = (request, (), WWW) if isinstance(request, str) else request
            theirs = apache.fate(name, target, headers, host)
            mine = ours(found, target, headers, host)
            if mine != theirs:
                differ.append((request, mine, theirs))
    assert not differ, "\n".join(f"{request}\n  gateway {mine}\n  apache  {theirs}" for request, mine, theirs in differ)


def site_with(directory: Path, text: str, extra: str = "") -> Path:
    (directory / "x.htaccess").write_text("RewriteEngine on\n" + text)
    path = directory / "site.yaml"
    path.write_text(
        'frontends: [{listen: "127.0.0.1:80"}]\n'
        'backends: {app: {servers: ["127.0.0.1:1"]}, shop: {servers: [{name: s, address: "10.0.0.1:8080"}]}}\n'
        f"routes:\n  - apache: x.htaccess\n  - backend: app\n{extra}"
    )
    return path


def test_proxying_leads_to_backends(tmp_path: Path) -> None:
    rules = "RewriteRule ^shop/(.*) http://shop/s/$1 [P,QSA]\nRewriteRule ^api$ http://10.0.0.1:8080/v1?x=$0 [P]\n"
    with Sandbox(load(site_with(tmp_path, rules))) as found:
        for url, backend, line in (
            ("/shop/a?b=c", "shop", "GET /s/a?b=c HTTP/1.1"),
            ("/api", "shop", "GET /v1?x=api HTTP/1.1"),
            ("/other", "app", "GET /other HTTP/1.1"),
        ):
            result = found.decide(Asked("GET", "http", WWW, url))
            assert (result["backend"], result["head"].split("\r\n")[0]) == (backend, line)


def test_the_peer_is_the_other_end_of_the_connection(tmp_path: Path) -> None:
    path = site_with(tmp_path, "RewriteRule ^v$ /is?c=%{CONN_REMOTE_ADDR}&r=%{REMOTE_ADDR} [L]\n")
    path.write_text(path.read_text().replace(':80"}]', ':80", trusted_proxies: [127.0.0.9]}]'))
    with Sandbox(load(path)) as found:
        asked = Asked("GET", "http", WWW, "/v", (("X-Forwarded-For", "198.51.100.9"),), "127.0.0.9")
        assert found.decide(asked)["head"].startswith("GET /is?c=127.0.0.9&r=198.51.100.9 ")


def test_explain_names_the_rules_that_match(tmp_path: Path) -> None:
    path = site_with(
        tmp_path, "RewriteRule ^a$ b\nRewriteRule ^none$ x\nRewriteRule ^b$ /c [R=301]\nRewriteRule ^z - [F]\n"
    )
    with Sandbox(load(path)) as found:
        notes = {url: found.decide(Asked("GET", "http", WWW, url))["routes"][0]["notes"] for url in ("/a", "/z", "/q")}
    assert notes == {
        "/a": ["line 2: now /var/www/html/b", "line 4: now http://www.example.com/c"],
        "/z": ["line 5: answers with 403"],
        "/q": [],
    }


def test_explain_says_why_other_lines_answer(tmp_path: Path) -> None:
    rules = """\
SetEnvIf User-Agent evil bad
Redirect /old http://other.example/new
Redirect gone /gone
<Files secret.txt>
Require all denied
</Files>
<Files near.txt>
Order deny,allow
Deny from env=bad
</Files>
<Files staff.txt>
AuthType Basic
AuthName x
AuthUserFile users
Require valid-user
</Files>
"""
    (tmp_path / "users").write_text(USERS)
    urls = ("/old/a", "/gone", "/secret.txt", "/near.txt", "/staff.txt", "/other")
    asked = [Asked("GET", "http", WWW, url, (("User-Agent", "evil"),)) for url in urls]
    found = decided(tmp_path, rules, *asked, name="y.htaccess")
    assert [item["routes"][0]["notes"] for item in found] == [
        ["line 1: sets bad", "line 2: answers with 302, to http://other.example/new/a"],
        ["line 1: sets bad", "line 3: answers with 410"],
        ["line 1: sets bad", "line 5: answers with 403: Require refuses it"],
        ["line 1: sets bad", "line 8: answers with 403: Order, Allow and Deny refuse it"],
        ["line 1: sets bad", "line 12: asks for a user that may pass"],
        ["line 1: sets bad"],
    ]


def test_a_web_socket_goes_to_a_backend(tmp_path: Path) -> None:
    rules = "RewriteCond %{HTTP:Upgrade} websocket [NC]\nRewriteRule ^(.*)$ ws://10.0.0.1:8080/ws/$1 [P,L]\n"
    with Sandbox(load(site_with(tmp_path, rules))) as found:
        headers = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
        assert found.decide(Asked("GET", "http", WWW, "/chat", headers))["backend"] == "shop"
        assert found.decide(Asked("GET", "http", WWW, "/chat"))["backend"] == "app"


def test_the_scheme_is_what_a_server_would_be_told(tmp_path: Path) -> None:
    """Rules from behind a balancer that ends TLS: that balancer is now this gateway, and no client can say so."""
    rules = "RewriteCond %{HTTP:X-Forwarded-Proto} !https\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]\n"
    path = site_with(tmp_path, rules)
    with Sandbox(load(path)) as found:
        said = (("X-Forwarded-Proto", "https"),)
        assert found.decide(Asked("GET", "http", WWW, "/f", said))["status"] == 301
        assert found.decide(Asked("GET", "http", WWW, "/f"))["status"] == 301
    path.write_text(path.read_text().replace(':80"}]', ':80", trusted_proxies: [127.0.0.1]}]'))
    with Sandbox(load(path)) as found:
        assert found.decide(Asked("GET", "http", WWW, "/f", said, "127.0.0.1"))["outcome"] == "backend"


def test_a_pattern_that_needs_too_many_steps_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox(load(site_with(tmp_path, "RewriteRule ^(?:(a+)+)+(?=b)\\1 - [F]\n"))) as found:
        assert found.decide(Asked("GET", "http", WWW, "/aab"))["outcome"] == "backend"
        assert found.decide(Asked("GET", "http", WWW, "/" + "a" * 2000 + "c"))["status"] == 500
        assert found.decide(Asked("GET", "http", WWW, "/" + "a" * 2000 + "c"))["status"] == 500
    assert [record.getMessage() for record in caplog.records] == [
        "apache x.htaccess: line 2: a pattern exceeded the limit of matching steps; status 500"
    ]


def test_an_encoded_slash_is_not_found_as_with_apache(tmp_path: Path) -> None:
    path = site_with(tmp_path, "RewriteRule ^admin/ - [F]\n")
    path.write_text(path.read_text().replace(':80"}]', ':80", encoded_slashes: true}]'))
    with Sandbox(load(path)) as found:
        assert found.decide(Asked("GET", "http", WWW, "/admin%2Fx"))["status"] == 404
        assert found.decide(Asked("GET", "http", WWW, "/%61dmin/x"))["status"] == 403


@pytest.mark.parametrize("said, sent", [("On", "/found/a/b"), ("NoDecode", "/found/a%2Fb")])
def test_encoded_slashes_of_changed_paths_go_on_as_the_rules_saw_them(tmp_path: Path, said: str, sent: str) -> None:
    path = site_with(tmp_path, f"AllowEncodedSlashes {said}\nRewriteRule ^x/(.*)$ /found/$1\n")
    with Sandbox(load(path)) as found:
        assert found.decide(Asked("GET", "http", WWW, "/x/a%2Fb"))["refused"][0] == 400
    assert any("AllowEncodedSlashes has no effect at" in warning.message for warning in load(path).warnings)
    path.write_text(path.read_text().replace(':80"}]', ':80", encoded_slashes: true}]'))
    assert not any("AllowEncodedSlashes" in warning.message for warning in load(path).warnings)
    with Sandbox(load(path)) as found:
        assert found.decide(Asked("GET", "http", WWW, "/x/a%2fb"))["head"].startswith(f"GET {sent} HTTP/1.1")
        assert found.decide(Asked("GET", "http", WWW, "/y/a%2Fb"))["head"].startswith("GET /y/a%2Fb HTTP/1.1")


def test_explain_asks_no_program_and_says_so(tmp_path: Path) -> None:
    rules = "RewriteMap m prg:program\nRewriteRule ^(.*)$ /${m:$1|none}/${m:x} [R]\n"
    path = site_with(tmp_path, rules)
    (tmp_path / "program").write_text("#!/bin/sh\ntouch here\n")
    (tmp_path / "program").chmod(0o755)
    with Sandbox(load(path)) as found:
        found.assume(Assumption(programs={"m": {"x": "y"}}))
        decision = found.decide(Asked("GET", "http", WWW, "/a"))
    assert decision["lines"] == "Location: http://www.example.com/none/y\r\n"
    assert decision["routes"][0]["notes"] == [
        'map m: its program is not run here, and supposed to have no value for "a"',
        'map m: its program is not run here, and supposed to have "y" for "x"',
        "line 3: now http://www.example.com/none/y",
    ]
    assert not (tmp_path / "here").exists()


def test_a_program_is_asked_for_a_limited_number_of_keys(tmp_path: Path) -> None:
    rules = "RewriteMap m prg:/bin/cat\nRewriteCond ${m:$1} .?\nRewriteRule ^(.*)$ $1x [N]\n"
    with Sandbox(load(site_with(tmp_path, rules))) as found:
        decision = found.decide(Asked("GET", "http", WWW, "/a"))
        long = found.decide(Asked("GET", "http", WWW, "/" + "a" * 8191))
    assert (decision["status"], decision["routes"][0]["notes"][-1]) == (
        503, "line 4: answers with 503: map m: its program is asked for at most 32 keys of a request",
    )  # fmt: skip
    assert long["status"] == 503


def test_mistakes_are_told_with_the_line_of_the_file(tmp_path: Path) -> None:
    path = site_with(tmp_path, "RewriteMap m txt:none.map\nAddTypo x\nRewriteRule ^a http://shp/ [P]\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value).replace(f"{tmp_path}/", "")
    assert text.splitlines() == [
        "site.yaml:4:13: x.htaccess:2: cannot read none.map: no such file or directory",
        (
            "site.yaml:4:13: x.htaccess:3: AddTypo is not supported: "
            "if it is about what the server does by itself, take it out of this file"
        ),
    ]
    site_with(tmp_path, "RewriteRule ^a http://shp/ [P]\n")
    with pytest.raises(ConfigError, match=r"x.htaccess:2: the host of P, shp, is neither .* \(did you mean shop\?\)"):
        load(path)


def decided(
    tmp_path: Path, rules: str, *requests: Asked, name: str = "x.conf", route: str = ""
) -> list[dict[str, Any]]:
    """What becomes of requests to a site with such rules."""
    path = site_with(tmp_path, "")
    (tmp_path / name).write_text(rules)
    path.write_text(path.read_text().replace("- apache: x.htaccess", f"- apache: {{file: {name}{route}}}"))
    with Sandbox(load(path)) as found:
        return [found.decide(request) for request in requests]


def test_proxy_pass_leads_to_backends(tmp_path: Path) -> None:
    rules = """\
ProxyPreserveHost On
ProxyPass /shop/static !
ProxyPass /shop/ http://shop/s/ retry=0
ProxyPassMatch ^/v([0-9]+)/(.*)$ http://10.0.0.1:8080/$2/$1
ProxyPassReverse /shop/ http://shop/s/
Header set X-By "the rules"
"""
    asked = [Asked("GET", "http", WWW, url) for url in ("/shop/a%20b?c", "/shop/static/x", "/v2/x", "/other")]
    found = decided(tmp_path, rules, *asked)
    assert [item["backend"] for item in found] == ["shop", "app", "shop", "app"]
    assert [item["head"].split(" ")[1] for item in found] == ["/s/a%20b?c", "/shop/static/x", "/x/2", "/other"]
    assert [item["edits"]["with"] for item in found] == ["X-By: the rules\r\n"] * 4


def test_virtual_hosts(tmp_path: Path) -> None:
    rules = """\
<VirtualHost *:80>
ServerName www.example.com
ServerAlias example.com *.example.com
Redirect permanent / https://www.example.com/
</VirtualHost>
<VirtualHost *:443>
ServerName www.example.com
DocumentRoot /srv/www
SSLEngine on
<Directory /srv/www/private>
Require ip 10.0.0.0/8
</Directory>
ProxyPass / http://shop/
</VirtualHost>
<VirtualHost *:443>
ServerName other.example
RedirectMatch ^/$ /start
</VirtualHost>
"""
    asked = [
        Asked("GET", "http", "sub.example.com", "/x"),
        Asked("GET", "http", "unknown", "/y"),
        Asked("GET", "https", "www.example.com", "/x"),
        Asked("GET", "https", "www.example.com", "/private/x"),
        Asked("GET", "https", "www.example.com", "/private/x", client="10.1.1.1"),
        Asked("GET", "https", "other.example", "/"),
    ]
    path = site_with(tmp_path, "")
    path.write_text(path.read_text())
    found = decided(tmp_path, rules, *asked)
    assert [item.get("status") for item in found] == [301, 301, None, 403, None, 302]
    assert "Location: https://www.example.com/y\r\n" in found[1]["lines"]
    assert "Location: https://other.example/start\r\n" in found[5]["lines"]
    assert found[4]["backend"] == "shop"


def test_virtual_hosts_share_the_maps_outside_of_them_and_have_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.map").write_text("key of-a\n")
    (tmp_path / "b.map").write_text("key of-b\n")
    (tmp_path / "shared.map").write_text("key x|x\n")
    host = """\
<VirtualHost *>
ServerName {name}.example
RewriteEngine on
RewriteMap own txt:{name}.map
RewriteRule ^/own$ /${{own:key}}
RewriteRule ^/shared$ /${{shared:key}}
<Directory /var/www/html/inner>
RewriteEngine on
RewriteRule ^x$ /${{own:key}}/${{shared:key}}
</Directory>
</VirtualHost>
"""
    rules = "RewriteMap shared rnd:shared.map\n" + "".join(host.format(name=name) for name in "ab")
    urls = ("/own", "/shared", "/inner/x")
    asked = [Asked("GET", "http", f"{name}.example", url) for name in "ab" for url in urls]
    found = [item["head"].split(" ")[1] for item in decided(tmp_path, rules, *asked)]
    assert found == ["/of-a", "/x", "/of-a/x", "/of-b", "/x", "/of-b/x"]


def test_fields_of_the_request(tmp_path: Path) -> None:
    rules = """\
SetEnvIf Host "^(.*)$" ASKED=$1
RequestHeader set X-Asked %{ASKED}e
RequestHeader unset Proxy early
RequestHeader append X-List b
RequestHeader merge X-Merged b
RequestHeader edit X-Edited "a(.)" "<$1>"
RequestHeader setifempty X-List none
"""
    sent = (("Proxy", "x"), ("X-List", "a"), ("X-Merged", "a, b"), ("X-Edited", "cab"))
    (found,) = decided(tmp_path, rules, Asked("GET", "http", WWW, "/", sent))
    lines = found["head"].splitlines()
    assert [line for line in lines if line.startswith(("X-As", "X-L", "X-M", "X-E", "Proxy"))] == [
        "X-Merged: a, b",
        f"X-Asked: {WWW}",
        "X-List: a, b",
        "X-Edited: c<b>",
    ]


def test_what_error_document_says(tmp_path: Path) -> None:
    rules = """\
ErrorDocument 403 "not for <b>you</b>"
ErrorDocument 410 http://other.example/gone
Redirect gone /gone
<Location /private>
Require all denied
</Location>
"""
    asked = [Asked("GET", "http", WWW, url) for url in ("/private/x", "/gone")]
    refused, gone = decided(tmp_path, rules, *asked)
    assert (refused["status"], refused["body"]) == (403, b"not for <b>you</b>")
    assert (gone["status"], gone["lines"]) == (302, "Location: http://other.example/gone\r\n")


@pytest.mark.parametrize("url", ["/config.php", "/config.php/x", "/a/.htaccess", "/.git/config"])
def test_a_path_behind_a_denied_file_is_denied(tmp_path: Path, url: str) -> None:
    """Without a list of the files of the server, a script may be requested with a path behind it."""
    rules = '<FilesMatch "^\\.|^config\\.php$">\nRequire all denied\n</FilesMatch>\n'
    (found,) = decided(tmp_path, rules, Asked("GET", "http", WWW, url), name="y.htaccess")
    assert found["status"] == 403


WITHOUT_FILE = "RewriteCond %{REQUEST_FILENAME} !-f\n"
WITHOUT = WITHOUT_FILE + "RewriteCond %{REQUEST_FILENAME} !-d\n"
FRONT_CONTROLLERS = {
    "guarded": "RewriteBase /\nRewriteRule ^index\\.php$ - [L]\n" + WITHOUT + "RewriteRule . /index.php [L]\n",
    "bare": WITHOUT + "RewriteRule ^ index.php [L]\n",
    "the last rule": WITHOUT + "RewriteRule . start.php\n",
    "with queries": WITHOUT_FILE + "RewriteRule ^ start.php [QSA,L]\n",
    "passed through": WITHOUT + "RewriteRule ^(.*)$ start.php [PT,QSA,L]\n",
    "but for a name": "RewriteCond %{REQUEST_URI} !=/icon.svg\n" + WITHOUT_FILE + "RewriteRule ^ main.php [L]\n",
    "but for itself": "RewriteCond %{REQUEST_URI} !^/main\\.php\n" + WITHOUT + "RewriteRule .* main.php [L]\n",
    "but for links": WITHOUT + "RewriteCond %{REQUEST_FILENAME} !-l\nRewriteRule .* shop.php [L]\n",
    "but for an office": WITHOUT + "RewriteCond %{REQUEST_URI} !/office/\nRewriteRule ^ %{ENV:HERE}main.php [QSA,L]\n",
    "but for folders with a script": WITHOUT
    + "RewriteCond %{REQUEST_FILENAME}/start.php !-f\nRewriteRule . start.php [L]\n",
    "a path behind": WITHOUT + "RewriteRule ^(.*)$ front.php/$1 [L]\n",
    "a path of any letters behind": WITHOUT + "RewriteRule ^((?:.|\\n)*)$ front.php/$1 [QSA,NC,L]\n",
    "a path behind, by ends of names": "RewriteCond $1 !\\.(js|png|css)$ [NC]\n"
    + WITHOUT
    + "RewriteRule ^(.*)$ /front.php/$1 [L]\n",
    "a query": WITHOUT_FILE + "RewriteRule ^(.*)$ show.php?where=$1 [QSA,L]\n",
    "a query of one letter or more": WITHOUT + "RewriteRule (.+) show.php?where=$1 [QSA,L]\n",
    "a query of what a condition found": WITHOUT_FILE + "RewriteRule .* show.php?where=%1 [QSA]\n",
    "a query, by ends of names": WITHOUT + "RewriteCond %{REQUEST_URI} !.*\\.(js|png|css|svg)\n"
    "RewriteRule ^([^?#]*) main.php?-page-=$1 [QSA,L]\n",
    "a folder of a variable": WITHOUT_FILE + "RewriteRule ^ %{ENV:FOLDER}/app.php [L]\n",
    "files kept": "RewriteCond %{REQUEST_FILENAME} -d [OR]\nRewriteCond %{REQUEST_FILENAME} -s\nRewriteRule ^ - [NC,L]\n"
    "RewriteRule ^.*$ run.php [NC,L]\n",
    "files kept, a folder of a variable": WITHOUT_FILE.replace("!", "") + "RewriteRule ^.* - [L]\n"
    "RewriteRule ^(?:.*)$ %{ENV:WHERE}main.php [NC,L]\n",
    "files kept, one letter or more": "RewriteCond %{REQUEST_FILENAME} -d [OR]\nRewriteCond %{REQUEST_FILENAME} -f\n"
    "RewriteRule ^ - [L]\nRewriteRule . start.php [L]\n",
    "by ends of names": "RewriteCond %{REQUEST_FILENAME} !\\.(svg|css|js)$\nRewriteRule . start.php [E=REST:$1,PT]\n",
    "a beginning": WITHOUT + "RewriteRule ^(.*) main.php [L]\n",
    "one page": WITHOUT_FILE + "RewriteRule . /app.html [L]\n",
    "one page, but for links": WITHOUT + "RewriteCond %{REQUEST_FILENAME} !-l\nRewriteRule . /app.html [L]\n",
}


@pytest.mark.parametrize("name", FRONT_CONTROLLERS)
def test_a_front_controller_is_recognised(tmp_path: Path, name: str) -> None:
    path = site_with(tmp_path, FRONT_CONTROLLERS[name])
    loaded = load(path)
    (warning,) = [item for item in loaded.warnings if "x.htaccess" in str(item)]
    assert "sends every URL without a file to" in str(warning)
    assert "your server does this by itself; leave the block out" in str(warning)
    with Sandbox(loaded) as found:
        assert "X-Original-URL: /hello/?s=x\r\n" in found.decide(Asked("GET", "http", WWW, "/hello/?s=x"))["head"]
        # Of a request that is not rewritten, the server must not believe what a client says of this.
        claims = (("X-Original-URL", "/admin"),)
        script = str(warning).split("without a file to ")[1].split(",")[0]
        for target in ("/hello/", f"/{script.lstrip('/')}"):
            assert "/admin" not in found.decide(Asked("GET", "http", WWW, target, claims))["head"]


def test_other_rules_are_no_front_controller(tmp_path: Path) -> None:
    rules = "RewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^shop/(.*)$ shop.php?p=$1 [L]\nRewriteRule ^ /a.php [R]\n"
    assert not any("your server does" in str(warning) for warning in load(site_with(tmp_path, rules)).warnings)


def test_a_redirect_without_base_is_said(tmp_path: Path) -> None:
    rules = "RewriteRule ^a$ b [R]\nRewriteRule ^(.*)\\.htm$ $1.html [R]\nRewriteRule ^c$ /d [R]\nRewriteRule ^e$ http://x/ [R]\n"
    said = [str(item) for item in load(site_with(tmp_path, rules)).warnings if "without RewriteBase" in str(item)]
    assert [text.split("x.htaccess:")[1].split(":")[0] for text in said] == ["2", "3"]
    based = load(site_with(tmp_path, "RewriteBase /\n" + rules)).warnings
    assert not any("without RewriteBase" in str(item) for item in based)


@needs("httxt2dbm")
def test_a_dbm_map_as_apache_reads_it(tmp_path: Path) -> None:
    text = "RewriteEngine on\nRewriteMap words dbm=sdbm:{map}\nRewriteRule ^/w/(.*)$ /found/${{words:$1|none}} [L]\n"
    entries = "".join(f"key{i} value-{i}\n" for i in range(500))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "words.txt").write_text(entries)
        command: list[str | Path] = [
            "httxt2dbm",
            "-f",
            "SDBM",
            "-i",
            directory / "words.txt",
            "-o",
            directory / "words",
        ]
        subprocess.run(command, check=True, timeout=20, stdout=subprocess.DEVNULL)
        rules = text.format(map=directory / "words")
        asked = [Asked("GET", "http", WWW, f"/w/key{i}") for i in (0, 250, 499, 500)]
        found = [item["head"].split(" ")[1] for item in decided(tmp_path, rules, *asked)]
        with Apache(directory, {"dbm": (rules, False, ())}) as apache:
            theirs = [apache.fate("dbm", item.target).where.decode() for item in asked]
    assert found == theirs == ["/found/value-0", "/found/value-250", "/found/value-499", "/found/none"]


def test_proxies_in_locations(tmp_path: Path) -> None:
    rules = """\
<Location /rest/>
ProxyPass http://shop/api/
ProxyPassReverse http://shop/api/
</Location>
<LocationMatch ^/v([0-9])/(.*)$>
ProxyPassMatch http://10.0.0.1:8080/$2/$1
</LocationMatch>
<Location /rest/not>
ProxyPass !
</Location>
ProxyPass / http://app/all/
ProxyPassReverseCookiePath /app /
ProxyPassReverseCookieDomain app.internal www.example.com
"""
    asked = [Asked("GET", "http", WWW, url) for url in ("/rest/a", "/v2/x", "/rest/not/x", "/other")]
    found = decided(tmp_path, rules, *asked)
    assert [(item["backend"], item["head"].split(" ")[1]) for item in found] == [
        ("shop", "/api/a"),
        ("shop", "/x/2"),
        ("app", "/rest/not/x"),
        ("app", "/all/other"),
    ]


def test_files_by_patterns(tmp_path: Path) -> None:
    rules = "RewriteEngine on\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^(.*)$ /all/$1 [END]\n"
    asked = [Asked("GET", "http", WWW, url) for url in ("/a/b.css", "/a/b.html", "/x.css/y")]
    found = decided(tmp_path, rules, *asked, name="y.htaccess", route=', exists: ["/*.css", /index.php]')
    assert [item["head"].split(" ")[1] for item in found] == ["/a/b.css", "/all/a/b.html", "/x.css/y"]
