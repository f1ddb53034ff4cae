"""What is there, and what it costs."""

import psycopg2


class OutOfStock(Exception):
    """There is less of an article than was asked for."""


class Stock:
    """The articles of one database, found by the environment (PGHOST, PGUSER)."""

    def __init__(self):
        self._db = psycopg2.connect(dbname="postgres")
        with self._db, self._db.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS stock"
                " (article text PRIMARY KEY, amount integer NOT NULL CHECK (amount >= 0), cents integer NOT NULL)"
            )

    def add(self, article, amount, cents):
        """Puts an amount on the shelf, at a price in cents for each."""
        with self._db, self._db.cursor() as cursor:
            cursor.execute(
                "INSERT INTO stock VALUES (%s, %s, %s) ON CONFLICT (article)"
                " DO UPDATE SET amount = stock.amount + excluded.amount, cents = excluded.cents",
                (article, amount, cents),
            )

    def sell(self, article, amount):
        """Takes an amount off the shelf; its price in cents."""
        with self._db, self._db.cursor() as cursor:
            cursor.execute(
                "UPDATE stock SET amount = amount - %s WHERE article = %s AND amount >= %s RETURNING cents",
                (amount, article, amount),
            )
            row = cursor.fetchone()
        if row is None:
            raise OutOfStock(article)
        return row[0] * amount

    def prices(self):
        """Every article with its price in cents, by name."""
        with self._db, self._db.cursor() as cursor:
            cursor.execute("SELECT article, cents FROM stock ORDER BY article")
            return cursor.fetchall()
