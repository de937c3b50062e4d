"""Apache: one event-driven process, keep-alive to the servers, the least busy of them, buffered log."""

from pathlib import Path

from bench.peers.peer import Peer, Setup, indented

MODULES = Path("/usr/lib/apache2/modules")
NEEDS = (
    *("mpm_event", "authz_core", "headers", "log_config", "socache_shmcb", "ssl", "unixd", "slotmem_shm"),
    *("proxy", "proxy_balancer", "proxy_http", "lbmethod_byrequests", "lbmethod_bybusyness"),
)
BUILT_IN = ("log_config", "unixd")  # in Debian's program
TEMPLATE = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.error
DefaultRuntimeDir {directory}
Mutex file:{directory}
{modules}
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{tls_port}
User nobody
Group nogroup
StartServers {workers}
ServerLimit {workers}
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers {threads}
MinSpareThreads {threads}
MaxSpareThreads {threads}
AsyncRequestWorkerFactor 100
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined
CustomLog {directory}/apache.access combined
BufferedLogs On
SSLSessionCache shmcb:{directory}/apache.tls(1000000)
<Proxy balancer://app>
    {servers}
    ProxySet lbmethod=bybusyness
</Proxy>
ProxyPass / balancer://app/
<VirtualHost 127.0.0.1:{port}>
    RequestHeader set X-Forwarded-Proto http
</VirtualHost>
<VirtualHost 127.0.0.1:{tls_port}>
    RequestHeader set X-Forwarded-Proto https
    SSLEngine on
    SSLProtocol TLSv1.3
    SSLCertificateFile {cert}
    SSLCertificateKeyFile {key}
    ProxyPass / balancer://app/
</VirtualHost>
"""


def command(setup: Setup) -> list[str]:
    """Write Apache's configuration and return its command."""
    path = setup.directory / "apache.conf"
    path.write_text(
        TEMPLATE.format(
            directory=setup.directory,
            port=setup.port,
            tls_port=setup.tls_port,
            modules="\n".join(
                f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in NEEDS if name not in BUILT_IN
            ),
            servers=indented(
                [f"BalancerMember http://{server} keepalive=On upgrade=websocket" for server in setup.servers], 4
            ),
            cert=setup.cert,
            key=setup.key,
            workers=setup.workers,
            threads=128 * setup.workers,
        )
    )
    return ["apache2", "-D", "FOREGROUND", "-f", str(path)]


APACHE = Peer("apache", "apache2", command, ("-v",))
