"""Expand: a column that the release of before does not know, and that may be empty."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """The release of before writes orders meanwhile."""
    op.add_column("orders", sa.Column("note", sa.Text))
