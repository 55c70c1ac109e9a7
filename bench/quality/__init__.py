"""Measures the prediction of quality against recorded outcomes."""
