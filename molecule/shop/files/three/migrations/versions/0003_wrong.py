"""A migration that fails."""

from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """There is no such table."""
    op.drop_column("parcels", "note")
