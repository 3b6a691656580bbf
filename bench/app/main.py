"""What the servers are measured with: as little as can be, JSON with validation, and a wait."""

import asyncio
import os

from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()


class Item(BaseModel):
    """A line of an order."""

    name: str = Field(min_length=1, max_length=80)
    price: float = Field(gt=0)
    quantity: int = Field(ge=1, le=1000)
    tags: list[str] = []


class Order(BaseModel):
    """What a client sends."""

    customer: int
    items: list[Item] = Field(min_length=1)


class Receipt(BaseModel):
    """What it gets back."""

    customer: int
    items: list[Item]
    total: float


@app.get("/")
async def hello() -> None:
    """Answer ``null``."""


@app.post("/orders")
async def order(order: Order) -> Receipt:
    """Validate what comes and what goes."""
    total = sum(item.price * item.quantity for item in order.items)
    return Receipt(customer=order.customer, items=order.items, total=total)


@app.get("/wait")
async def wait() -> None:
    """Answer after 10 ms, as if a database had been asked."""
    await asyncio.sleep(0.01)


@app.get("/worker")
async def worker() -> int:
    """Answer with the process id of the worker."""
    return os.getpid()


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 2xx while this process serves."""
    return {"status": "ok"}
