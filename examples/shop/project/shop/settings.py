"""Where the database and the queue are. What is secret comes from systemd, in files that nobody else can read."""

import os
from pathlib import Path

import redis
import sqlalchemy

HOST = os.environ["SHOP_SERVICES"]


def secret(name: str) -> str:
    """A credential (gunicorn_fastapi_credentials)."""
    return Path(os.environ["CREDENTIALS_DIRECTORY"], name).read_text()


def database() -> sqlalchemy.Engine:
    """Connections are looked at before they are used: the database may have been restarted meanwhile."""
    url = sqlalchemy.URL.create("postgresql+psycopg", "shop", secret("database_password"), HOST, database="shop")
    return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5})


def queue() -> redis.Redis:
    """The queue is a stream, whose entries stay until a worker says that it is done."""
    return redis.Redis(host=HOST, password=secret("redis_password"), decode_responses=True, socket_timeout=30)
