"""A shop's stock, kept in PostgreSQL."""

from shop.stock import OutOfStock, Stock

__all__ = ["OutOfStock", "Stock"]
