"""A load generator that never retries, so that a lost request shows.

Every connection sends one request after the other and waits for each answer. A request that gets
anything but a complete 2xx answer has failed, and the reason is counted. Standard library only, so
that it runs on any host with Python 3.11:

    python3 load.py http://127.0.0.1/ --connections 32 --seconds 10 --keep-alive --json
    python3 load.py http://127.0.0.1/ --connections 8 --seconds 10 --close --method POST --rate 200
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


class RequestError(Exception):
    """A request without a complete answer; the message is the reason it is counted under."""


@dataclass(frozen=True)
class Load:
    """What to send: ``seconds`` of requests over ``connections`` connections at once.

    ``keep_alive``: one connection for many requests; otherwise each request has its own.
    ``rate``: requests per second over all connections; ``None`` is as fast as the answers come.
    ``body``: what a POST carries. ``timeout``: seconds that a request may take.
    ``label``: what tells who answered: the name of a response header, or ``body`` for the body.
    """

    url: str
    connections: int = 8
    seconds: float = 5.0
    keep_alive: bool = True
    method: str = "GET"
    body: bytes = b""
    rate: float | None = None
    timeout: float = 30.0
    label: str | None = None


@dataclass
class Result:
    """What came back: ``sent == answered + failed``; ``refused`` connections carried no request.

    ``failures``: how many failed, by reason. ``labels``: how many answers, by who gave them.
    ``longest_pause``: most seconds without any answer while there was load. ``latencies``: seconds.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    connected: int = 0
    seconds: float = 0.0
    longest_pause: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list, repr=False)

    def percentile(self, percent: float) -> float:
        """The nearest-rank percentile of the latencies in seconds; 0 without any answer."""
        ranked = sorted(self.latencies)
        return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)] if ranked else 0.0

    def summary(self) -> dict[str, object]:
        """Everything but the single latencies, ready for JSON."""
        latency = {f"p{p:g}": self.percentile(p) for p in (50, 90, 99, 99.9, 100)}
        return {k: v for k, v in vars(self).items() if k != "latencies"} | {"latency": latency}


@dataclass
class Answer:
    """A complete response; ``last`` says that the connection carries no further request."""

    status: int
    headers: dict[str, str]
    body: bytes
    last: bool


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one response to the end of its body.

    Raises ``RequestError`` when the connection ends before that, and says how far it had come.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        how_far = "inside the headers" if error.partial else "before any byte of the answer"
        raise RequestError(f"closed {how_far}") from error
    status_line, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(status_line[9:12])
    last = "close" in headers.get("connection", "").lower()
    try:
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await read_chunks(reader)
        elif status in (204, 304):
            body = b""
        else:
            body, last = await reader.read(), True
    except asyncio.IncompleteReadError as error:
        raise RequestError("closed inside the body") from error
    return Answer(status, headers, body, last)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body without trailers."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


class Generator:
    """Puts one ``Load`` on its URL and counts what comes back."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.result = Result()
        url = urlsplit(load.url)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"{load.url}: only http://host[:port]/path can be loaded")
        self.host, self.port = url.hostname, url.port or 80
        self.request = b"\r\n".join(
            [
                f"{load.method} {url.path or '/'}{'?' * bool(url.query)}{url.query} HTTP/1.1".encode(),
                f"host: {url.netloc}".encode(),
                b"connection: " + (b"keep-alive" if load.keep_alive else b"close"),
                f"content-length: {len(load.body)}".encode(),
                b"",
                load.body,
            ]
        )
        self._last_answer = 0.0

    async def run(self, until: Callable[[], bool] = lambda: False) -> Result:
        """Send for ``load.seconds``, or less if ``until()`` says so, and wait for the last answers."""
        begin = self._last_answer = time.monotonic()
        end = begin + self.load.seconds

        def over() -> bool:
            return time.monotonic() >= end or until()

        await asyncio.gather(*(self._client(n, over) for n in range(self.load.connections)))
        self._end_pause()
        self.result.seconds = time.monotonic() - begin
        return self.result

    def _end_pause(self) -> None:
        now = time.monotonic()
        self.result.longest_pause = max(self.result.longest_pause, now - self._last_answer)
        self._last_answer = now

    async def _client(self, number: int, over: Callable[[], bool]) -> None:
        """One connection at a time; after a failure, and after ``Connection: close``, the next one."""
        interval = self.load.connections / self.load.rate if self.load.rate else 0.0
        due = time.monotonic() + interval * number / self.load.connections
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if over():
                break
            due = max(due + interval, time.monotonic())
            if streams is not None and (streams[0].at_eof() or streams[0].exception()):
                # The server has ended the idle connection, and nothing was sent on it.
                streams[1].close()
                streams = None
            if streams is None:
                streams = await self._connect()
            if streams is None:
                await asyncio.sleep(0.01)
            elif not await self._exchange(*streams):
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            async with asyncio.timeout(self.load.timeout):
                streams = await asyncio.open_connection(self.host, self.port)
        except OSError as error:
            # Without a connection there is no request, so it counts as refused and not as failed.
            self.result.refused += 1
            self.result.failures[f"connect: {type(error).__name__}"] += 1
            return None
        self.result.connected += 1
        return streams

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one request and count its answer; whether the connection can carry another one."""
        result = self.result
        result.sent += 1
        start = time.monotonic()
        try:
            writer.write(self.request)
            async with asyncio.timeout(self.load.timeout):
                answer = await read_answer(reader)
            if not 200 <= answer.status < 300:
                raise RequestError(f"status {answer.status}")
        except (OSError, ValueError, RequestError) as error:
            result.failed += 1
            reason = str(error) if isinstance(error, RequestError) else type(error).__name__
            result.failures[reason] += 1
            return False
        self._end_pause()
        result.answered += 1
        result.latencies.append(time.monotonic() - start)
        if self.load.label is not None:
            headers = {**answer.headers, "body": answer.body.decode(errors="replace")}
            result.labels[headers.get(self.load.label.lower(), "")] += 1
        return self.load.keep_alive and not answer.last


def main(arguments: list[str] | None = None) -> int:
    """Run one load from the command line; exit 1 if a request failed or a connection was refused."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("url", help="http://host[:port]/path")
    parser.add_argument("--connections", type=int, default=8, help="at the same time")
    parser.add_argument("--seconds", type=float, default=5.0)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--keep-alive", action="store_true", default=True, help="the default")
    kind.add_argument("--close", dest="keep_alive", action="store_false", help="one request each")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", default="", help="what a POST carries")
    parser.add_argument("--rate", type=float, help="requests per second in all; default: saturation")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds per request")
    parser.add_argument("--label", help="response header, or 'body', that tells who answered")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = vars(parser.parse_args(arguments))
    as_json = options.pop("json")
    options["body"] = options["body"].encode()
    result = asyncio.run(Generator(Load(**options)).run())
    if as_json:
        print(json.dumps(result.summary()))
    else:
        for name, value in result.summary().items():
            print(f"{name:14} {dict(value) if isinstance(value, dict) else value}")
    return 1 if result.failed or result.refused else 0


if __name__ == "__main__":
    sys.exit(main())
