"""A timer's job on each host: leaves a report in the directory that the application may write to."""

import os
from pathlib import Path

from sqlalchemy import func, select

from shop.settings import database
from shop.tables import packings

if __name__ == "__main__":
    with database().connect() as connection:
        packed = connection.execute(select(func.count()).select_from(packings)).scalar_one()
    path = Path(os.environ["STATE_DIRECTORY"], "report")
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{packed} orders are packed\n")
    fresh.replace(path)
