"""A gRPC server in this process, by grpcio: all four kinds of calls, whose messages are plain bytes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

SERVICE = "test.Echo"
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
LIMIT = 10.0


class Echo:
    """The four methods; `ended` is set when a call that hangs is over."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()

    def unary(self, request: bytes, context: Any) -> bytes:
        """Give the message back, and the metadata of the client; fail or hang if it says so."""
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: ü")
        if request == b"hang":
            self._hang(context)
        metadata = {key: value for key, value in context.invocation_metadata() if key.startswith("x-")}
        context.send_initial_metadata(tuple((f"{key}-first", value) for key, value in metadata.items()))
        context.set_trailing_metadata((*metadata.items(), ("bytes-bin", b"\0\xff")))
        return request

    def download(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Give as many messages as the request says; without a number, one, and then hang."""
        for i in range(int(request or 1)):
            yield b"%d" % i
        if not request:
            self._hang(context)

    def upload(self, requests: Iterator[bytes], _: Any) -> bytes:
        """Say how many messages and bytes came."""
        sizes = [len(request) for request in requests]
        return b"%d %d" % (len(sizes), sum(sizes))

    def chat(self, requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        """Answer each message as it comes."""
        for request in requests:
            yield b"re: " + request

    def _hang(self, context: Any) -> None:
        context.add_callback(self.ended.set)
        self.started.set()
        self.ended.wait(LIMIT)


class GrpcEcho:
    """A context manager: the server on a port of 127.0.0.1. With `credentials` it speaks TLS."""

    def __init__(self, name: str = "grpc", credentials: grpc.ServerCredentials | None = None) -> None:
        self.name = name
        self.echo = Echo()
        self.server = grpc.server(ThreadPoolExecutor(16), options=NO_LIMIT)
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.echo.unary),
            "Download": grpc.unary_stream_rpc_method_handler(self.echo.download),
            "Upload": grpc.stream_unary_rpc_method_handler(self.echo.upload),
            "Chat": grpc.stream_stream_rpc_method_handler(self.echo.chat),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kinds),))
        if credentials is None:
            port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop(None).wait(LIMIT)


class GrpcClient:
    """A context manager: a channel to a gateway, with the four methods."""

    def __init__(self, port: int, credentials: grpc.ChannelCredentials | None = None) -> None:
        address = f"localhost:{port}"
        # A channel of its own: grpcio would share the connections of one with the same options.
        options = [*NO_LIMIT, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            self.channel = grpc.secure_channel(address, credentials, options)
        self.unary = self.channel.unary_unary(f"/{SERVICE}/Unary")
        self.download = self.channel.unary_stream(f"/{SERVICE}/Download")
        self.upload = self.channel.stream_unary(f"/{SERVICE}/Upload")
        self.chat = self.channel.stream_stream(f"/{SERVICE}/Chat")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
