"""What clients see of a change: one request every 10 ms, however long the others take.

A client that is refused tries again after 50 ms, and its latency counts from the moment at which it was to
be answered first. So a pause shows in every request that would have been sent during it. Runs on the host,
with its Python and nothing else:

    python3 pause_load.py PORT SECONDS_AFTER COMMAND

COMMAND runs after 3 seconds of load, and the load goes on for SECONDS_AFTER it. Prints JSON.
"""

import asyncio
import itertools
import json
import math
import sys
import time

INTERVAL = 0.01
"""Seconds between two requests."""

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Clients:
    """All requests, and what became of them. Latencies and ``begun`` are seconds."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.latencies: list[tuple[float, float]] = []
        self.failures = 0

    async def attempt(self) -> bool:
        """Send one request on a connection of its own; whether it was answered with 200."""
        try:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(REQUEST)
                answer = await reader.read()
                writer.close()
        except OSError:
            return False
        return answer.startswith(b"HTTP/1.1 200 ")

    async def client(self, due: float) -> None:
        """Ask until there is an answer."""
        while not await self.attempt():
            self.failures += 1
            await asyncio.sleep(0.05)
        self.latencies.append((due, time.monotonic() - due))

    async def run(self, over: asyncio.Event) -> None:
        """Send until `over`, and wait for the last answers."""
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not over.is_set():
                group.create_task(self.client(due))
                due += INTERVAL
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def summary(self) -> dict[str, float]:
        """Percentiles of the latencies in milliseconds, and the longest time between two answers."""
        ranked = sorted(latency for _, latency in self.latencies)
        answered = sorted(due + latency for due, latency in self.latencies)
        pauses = [later - sooner for sooner, later in itertools.pairwise(answered)]
        figures = {f"p{p:g}": ranked[math.ceil(len(ranked) * p / 100) - 1] * 1000 for p in (50, 99, 99.9, 100)}
        return {"requests": len(ranked), "failures": self.failures, "pause": max(pauses) * 1000, **figures}


async def main() -> None:
    """Put the load on, run the command in the midst of it, print what was seen."""
    port, after, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    clients, over = Clients(port), asyncio.Event()
    load = asyncio.create_task(clients.run(over))
    await asyncio.sleep(3)
    begin = time.monotonic()
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.DEVNULL)
    code = await process.wait()
    took = time.monotonic() - begin
    await asyncio.sleep(after)
    over.set()
    await load
    if code:
        sys.exit(f"{command} ended with {code}")
    print(json.dumps({"command_seconds": took, **clients.summary()}))


if __name__ == "__main__":
    asyncio.run(main())
