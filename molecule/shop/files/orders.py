"""Orders from one host, never twice, and what has become of all of them.

python3 orders.py send SECONDS    at most; until /opt/test/stop is there. Prints JSON
python3 orders.py slow SECONDS    one order that takes so long, and wait until it is being packed
python3 orders.py kill            end a worker of the release that serves, by SIGKILL
python3 orders.py packed          wait until all are packed. Prints JSON
"""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

from checks import run, wait_for
from load import Generator, Load

STOP = Path("/opt/test/stop")
URL = "http://127.0.0.1/orders"


def query(words: str) -> list[str]:
    """What the database says."""
    psql = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname=shop", f"--command={words}"]
    return run("runuser", "-u", "postgres", "--", *psql).split()


async def send(seconds: float) -> dict[str, object]:
    """On kept and on new connections."""
    loads = [
        Load(URL, connections=4, seconds=seconds, keep_alive=kept, method="POST", rate=20, timeout=120)
        for kept in (True, False)
    ]
    results = await asyncio.gather(*(Generator(load).run(STOP.exists) for load in loads))
    found = {name: sum(getattr(one, name) for one in results) for name in ("sent", "answered", "failed", "refused")}
    failures = [str(dict(one.failures)) for one in results]
    return {**found, "failures": failures}


def slow(seconds: str) -> None:
    """Its row is held by the worker that packs it."""
    request = urllib.request.Request(f"{URL}?item=slow:{seconds}", method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        number = json.load(answer)["id"]
    held = f"SELECT id FROM orders WHERE id = {number} FOR UPDATE SKIP LOCKED"
    wait_for(lambda: not query(held), "a worker that packs it")
    print(number)


def kill() -> None:
    """All processes of one instance, in the middle of whatever it does."""
    found = json.loads(run("shopctl", "status", "--json"))
    unit = next(one["unit"] for one in found["processes"] if one["up"] and one["release"] == found["release"][:12])
    group = run("systemctl", "show", "--property=ControlGroup", "--value", unit).strip()
    for pid in Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    print(unit)


def packed() -> None:
    """Each order once, by which releases, and the slow ones by which."""
    left = "SELECT count(*) FROM orders WHERE id NOT IN (SELECT order_id FROM packings)"
    wait_for(lambda: query(left) == ["0"], "all orders to be packed")
    (made,), (done,), (different,) = (
        query(f"SELECT count({what}) FROM {table}")
        for what, table in (("*", "orders"), ("*", "packings"), ("DISTINCT order_id", "packings"))
    )
    by = "SELECT DISTINCT release FROM packings"
    of_slow = f"{by} WHERE order_id IN (SELECT id FROM orders WHERE item LIKE 'slow%')"
    noted = query("SELECT count(*) FROM orders WHERE note IS NOT NULL")
    print(
        json.dumps(
            {
                "orders": int(made),
                "packings": int(done),
                "packed": int(different),
                "by": query(by),
                "slow": query(of_slow),
                "noted": int(noted[0]),
            }
        )
    )


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "send":
        text = json.dumps(asyncio.run(send(float(rest[0]))))
        Path("/opt/test/orders.json").write_text(text)
    else:
        {"slow": slow, "kill": kill, "packed": packed}[what](*rest)
