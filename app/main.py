"""The smallest useful FastAPI application: a greeting that says nothing, and its health."""

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> None:
    """Answer ``null``."""


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 2xx while this process serves.

    Coroutines run in the event loop itself, so a worker whose loop is stuck does not answer.
    """
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app)
