import pytest

from shop import OutOfStock, Stock


@pytest.fixture
def stock():
    stock = Stock()
    stock.add("anchor", 3, 12_500)
    stock.add("rope", 100, 250)
    return stock


def test_selling_costs_the_price_of_each(stock):
    assert stock.sell("rope", 4) == 1_000


def test_what_is_not_there_cannot_be_sold(stock):
    with pytest.raises(OutOfStock):
        stock.sell("anchor", 1_000_000)
    with pytest.raises(OutOfStock):
        stock.sell("mermaid", 1)


def test_prices_are_listed_by_name(stock):
    assert [article for article, _ in stock.prices()] == ["anchor", "rope"]
