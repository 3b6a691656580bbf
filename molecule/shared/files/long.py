"""Clients that stay for long: a response that streams, and a WebSocket that waits for its end.

Prints ``ready`` when both are open, and in the end JSON: the streamed ``lines``, and the code that the
server closed the WebSocket with (``closed``). Standard library only.

    python3 long.py --seconds 20
"""

import argparse
import asyncio
import base64
import http.client
import json
import os


def open_stream(seconds: int) -> http.client.HTTPResponse:
    """A response that has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=seconds + 30)
    connection.request("GET", f"/stream?seconds={seconds}")
    return connection.getresponse()


async def open_websocket() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket whose handshake is over. Raises RuntimeError when it is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", 80)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(head.decode())
    return reader, writer


async def close_code(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The code of the close frame (RFC 6455, 5.5.1), 0 when the connection ends without one."""
    try:
        while True:
            first, length = await reader.readexactly(2)  # a server does not mask, and its frames here are short
            payload = await reader.readexactly(length)
            if first & 0x0F == 8:
                return int.from_bytes(payload[:2], "big")
            if first & 0x0F == 9:  # a ping; the mask that a client has to use is zero
                writer.write(bytes([0x8A, 0x80 | length, 0, 0, 0, 0]) + payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0


async def main() -> None:
    """Open both, and wait until both have ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    response = await asyncio.to_thread(open_stream, options.seconds)
    reader, writer = await open_websocket()
    print("ready", flush=True)
    code, body = await asyncio.gather(close_code(reader, writer), asyncio.to_thread(response.read))
    print(json.dumps({"lines": body.decode().splitlines(), "closed": code}))


if __name__ == "__main__":
    asyncio.run(main())
