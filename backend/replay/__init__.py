"""`clearfloor replay`: recorded decisions computed again, by the catalogue that they had or by another."""
