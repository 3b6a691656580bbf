"""The server: takes orders, which workers pack."""

import os
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import func, insert, select

from shop.settings import database, queue
from shop.tables import STREAM, orders, packings

app = FastAPI()
engine = database()
stream = queue()


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """That it can do its work."""
    with engine.connect() as connection:
        connection.execute(select(1))
    stream.ping()
    return {"status": "ok"}


@app.post("/orders", status_code=201)
def order(item: str = "a parcel") -> dict[str, int]:
    """Take an order. One whose job gets lost between the database and the queue is found by the timer `sweep`."""
    with engine.begin() as connection:
        number = connection.execute(insert(orders).values(item=item).returning(orders.c.id)).scalar_one()
    stream.xadd(STREAM, {"id": number})
    return {"id": number}


@app.get("/orders")
def summary() -> dict[str, int]:
    """How many orders there are, and how many of them are packed."""
    with engine.connect() as connection:
        made = connection.execute(select(func.count()).select_from(orders)).scalar_one()
        packed = connection.execute(select(func.count()).select_from(packings)).scalar_one()
    return {"made": made, "packed": packed}


@app.get("/report")
def report() -> dict[str, str]:
    """What the timer `report` has written on this host."""
    path = Path(os.environ["STATE_DIRECTORY"], "report")
    return {"report": path.read_text() if path.exists() else "none yet"}
