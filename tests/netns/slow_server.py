"""A server that takes 100 ms for each request, and says the name of its site: python slow_server.py PORT SITE."""

import asyncio
import sys

TAKES = 0.1


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = sys.argv[2].encode()
    try:
        while (await reader.readuntil(b"\r\n\r\n")).strip():
            await asyncio.sleep(TAKES)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
