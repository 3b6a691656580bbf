"""What this release reads and writes. A column that a migration has added may be missing here: the release of before
runs beside this one."""

import sqlalchemy as sa

metadata = sa.MetaData()

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("item", sa.Text, nullable=False),
    sa.Column("note", sa.Text, default="of the second version"),
    sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
)
packings = sa.Table(
    "packings",
    metadata,
    sa.Column("order_id", sa.BigInteger, nullable=False),
    sa.Column("release", sa.Text, nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
)

STREAM, GROUP = "orders", "packers"
"""In Redis."""
