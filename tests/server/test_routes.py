"""The paths that are told to who has asked for the health in vain."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from gunicorn_fastapi.routes import askable
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route


def shop() -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/api")
    for path, where in (("/items/{number}", app), ("/items", app), ("/ready", router)):
        where.get(path)(lambda: None)
    app.post("/health")(lambda: None)
    app.include_router(router)
    app.get("/hidden", include_in_schema=False)(lambda: None)
    app.mount("/v2", FastAPI(routes=[Route("/livez", lambda _: None)], openapi_url=None))
    app.mount("/static", PlainTextResponse())
    return app


class Around:
    """A middleware, as uvicorn has some."""

    def __init__(self, app: Any) -> None:
        self.app = app


def test_those_for_health_come_first_and_none_with_a_parameter() -> None:
    assert askable(Around(Around(shop()))) == ["/api/ready", "/v2/livez", "/items", "/hidden"]


def test_only_some_are_told() -> None:
    app = FastAPI()
    for number in range(20):
        app.get(f"/a{number}")(lambda: None)
    app.get("/status")(lambda: None)
    told = askable(app)
    assert told[0] == "/status"
    assert len(told) == 8


class Odd:
    """An application that raises when it is looked at."""

    @property
    def routes(self) -> list[object]:
        raise RuntimeError


def endless() -> Any:
    around = Around(None)
    around.app = around
    return around


@pytest.mark.parametrize("app", [None, Odd(), endless(), lambda *_: None, FastAPI(routes=[Mount("/x", routes=[])])])
def test_an_application_may_be_anything(app: Any) -> None:
    assert askable(app) == []
