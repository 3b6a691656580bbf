"""A timer's job: puts orders into the queue that nobody has packed for long."""

from sqlalchemy import exists, func, select, text

from shop.settings import database, queue
from shop.tables import STREAM, orders, packings

if __name__ == "__main__":
    stream = queue()
    late = select(orders.c.id).where(
        orders.c.made < func.now() - text("interval '10 minutes'"), ~exists().where(packings.c.order_id == orders.c.id)
    )
    with database().connect() as connection:
        for (number,) in connection.execute(late):
            stream.xadd(STREAM, {"id": number})
            print(f"order {number} is in the queue again")
