"""`clearfloor prices`: list prices from the library genai-prices, as price versions of the operator's candidates."""
