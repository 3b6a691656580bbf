"""The worker with uvicorn's other parser, under a name that gunicorn's configuration can have."""

from typing import Any, ClassVar

from gunicorn_fastapi.worker import DrainingUvicornWorker


class H11(DrainingUvicornWorker):
    """Without the bounds: only the parser httptools has them."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "h11"}
