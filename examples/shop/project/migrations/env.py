"""Runs the migrations, one at a time whoever begins them: the lock is the database's."""

from alembic import context
from shop.settings import database
from sqlalchemy import text

with database().connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(hashtext('shop migrations'))"))
    connection.commit()  # the lock belongs to the session, and stays
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
