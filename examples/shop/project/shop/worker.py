"""A worker: packs orders, each once, whatever dies meanwhile.

An entry stays in the stream until it is packed. One whose worker has died is taken over by another, and who packs an
order holds its row: an entry that comes twice finds it held, or packed.
"""

import os
import signal
import time
from typing import Any

import redis
from sqlalchemy import insert, select

from shop.settings import database, queue
from shop.tables import GROUP, STREAM, orders, packings

IDLE = int(os.environ.get("SHOP_IDLE_SECONDS", "30")) * 1000
"""Milliseconds after which another worker looks after an entry."""

stopping: list[int] = []


def pack(connection: Any, number: int) -> bool:
    """Pack an order. Whether that is done, by this worker or another one."""
    row = select(orders.c.item).where(orders.c.id == number).with_for_update(skip_locked=True)
    item = connection.execute(row).scalar_one_or_none()
    if item is None:
        return False
    if connection.execute(select(packings).where(packings.c.order_id == number)).first() is None:
        time.sleep(float(item.partition(":")[2] or 0))  # an item "slow:60" takes a minute
        release = os.environ["GUNICORN_FASTAPI_RELEASE"]
        connection.execute(insert(packings).values(order_id=number, release=release))
    return True


def entries(stream: redis.Redis, name: str) -> list[tuple[str, dict[str, str]]]:
    """The next entries: those of workers that have died, and else a new one."""
    claimed: Any = stream.xautoclaim(STREAM, GROUP, name, min_idle_time=IDLE, count=10)
    if claimed[1]:
        return list(claimed[1])
    fresh: Any = stream.xreadgroup(GROUP, name, {STREAM: ">"}, count=1, block=500)
    return list(fresh[0][1]) if fresh else []


def main() -> None:
    """Pack until told to stop (SIGTERM), and then finish what is begun."""
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    engine, stream, name = database(), queue(), os.environ["GUNICORN_FASTAPI_INSTANCE"]
    try:
        stream.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    while not stopping:
        for entry, fields in entries(stream, name):
            with engine.begin() as connection:
                done = pack(connection, int(fields["id"]))
            if done:
                stream.xack(STREAM, GROUP, entry)
                stream.xdel(STREAM, entry)


if __name__ == "__main__":
    main()
