from shop import Stock

for article, cents in Stock().prices():
    print(f"{article:12} {cents / 100:8.2f}")
