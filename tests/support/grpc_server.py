"""A real gRPC server with the standard health service: `python -m tests.support.grpc_server [CERTIFICATE KEY]`.

With the files of a certificate and its key it speaks TLS. Prints its port. A line on standard input, `SERVICE STATE`, sets the state of a service; it ends when the input does.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
    """Run until standard input ends."""
    server = grpc.server(ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if len(sys.argv) > 1:
        cert, key = (Path(name).read_bytes() for name in sys.argv[1:])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201 - that is how the test learns it
    for line in sys.stdin:
        service, state = line.strip().split("=")
        servicer.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(state))
        print("set", flush=True)  # noqa: T201 - likewise
    server.stop(None)


if __name__ == "__main__":
    main()
