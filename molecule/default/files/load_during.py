"""Run a command under load and print, as JSON, what came of both.

python3 load_during.py http://127.0.0.1/ systemctl reload fastapi.service
"""

import asyncio
import dataclasses
import json
import sys

from load import Generator, Load


async def main(url: str, *command: str) -> None:
    """Send requests over kept and new connections from before the command until after it."""
    generators = [Generator(Load(url, connections=4, seconds=120, keep_alive=kept, rate=100)) for kept in (True, False)]
    over = asyncio.Event()
    loads = [asyncio.create_task(generator.run(over.is_set)) for generator in generators]
    await asyncio.sleep(0.5)
    process = await asyncio.create_subprocess_exec(*command)
    status = await process.wait()
    await asyncio.sleep(0.5)
    over.set()
    results = [dataclasses.asdict(result) for result in await asyncio.gather(*loads)]
    summary = {key: sum(result[key] for result in results) for key in ("sent", "answered", "failed", "refused")}
    print(json.dumps({**summary, "status": status, "failures": [str(result["failures"]) for result in results]}))


asyncio.run(main(*sys.argv[1:]))
