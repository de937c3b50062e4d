"""Every proxy that can take part, in the order in which they take turns."""

from bench.peers.apache import APACHE
from bench.peers.caddy import CADDY
from bench.peers.envoy import ENVOY
from bench.peers.floor import FLOOR
from bench.peers.gateway import GATEWAY
from bench.peers.haproxy import HAPROXY, HAPROXY_LARGE
from bench.peers.nginx import NGINX
from bench.peers.traefik import TRAEFIK

MEASURED_AGAINST = (NGINX.name, HAPROXY.name, HAPROXY_LARGE.name)
"""The peers whose better one is the yardstick: nginx and HAProxy, where bodies are large also with large buffers."""
CORE = (GATEWAY, NGINX, HAPROXY, HAPROXY_LARGE, FLOOR)
"""Those that everything is measured with."""
PEERS = (*CORE, APACHE, ENVOY, CADDY, TRAEFIK)
