"""Every proxy that can take part, in the order in which they take turns."""

from bench.peers.apache import APACHE
from bench.peers.caddy import CADDY
from bench.peers.envoy import ENVOY
from bench.peers.floor import FLOOR
from bench.peers.gateway import GATEWAY
from bench.peers.haproxy import HAPROXY
from bench.peers.nginx import NGINX
from bench.peers.traefik import TRAEFIK

MEASURED_AGAINST = (NGINX.name, HAPROXY.name)
"""The peers whose better one is the yardstick."""
CORE = (GATEWAY, NGINX, HAPROXY, FLOOR)
"""Those that every case is measured with."""
PEERS = (*CORE, APACHE, ENVOY, CADDY, TRAEFIK)
