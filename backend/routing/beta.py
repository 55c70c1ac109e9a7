"""Quantiles of the Beta distribution, in the standard library alone.

The distribution function by its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22), its inverse by
Newton's method. Exact to about 1e-9; some 50 us each, paid when rates are read, not with a request.
"""

import math

_MOST_TERMS = 500
_ENOUGH = 1e-12
_TINY = 1e-300
_NOTHING = 1e-9
_MOST_STEPS = 60


def lower_quantile(probability: float, alpha: float, beta: float) -> float:
    """Return below what a Beta(alpha, beta) lies with this probability. A parameter of next to nothing leaves no doubt."""
    if alpha <= _NOTHING:
        return 0.0
    if beta <= _NOTHING:
        return 1.0
    low, high, x = 0.0, 1.0, alpha / (alpha + beta)
    for _ in range(_MOST_STEPS):
        excess = distribution(x, alpha, beta) - probability
        low, high = (x, high) if excess < 0 else (low, x)
        step = excess / (_density(x, alpha, beta) or _TINY)
        # Newton's step, where it stays between what is known to be too low and too high.
        following = x - step if low < x - step < high else (low + high) / 2
        if abs(following - x) < _ENOUGH:
            break
        x = following
    return x


def _density(x: float, alpha: float, beta: float) -> float:
    return math.exp(_log_factor(alpha, beta) + (alpha - 1) * math.log(x) + (beta - 1) * math.log1p(-x))


def _log_factor(alpha: float, beta: float) -> float:
    return math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)


def distribution(x: float, alpha: float, beta: float) -> float:
    """Return with what probability a Beta(alpha, beta), both above 0, lies below x, 0 to 1."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    # The fraction converges quickly below the mean only; above it the other tail is taken.
    if x > (alpha + 1) / (alpha + beta + 2):
        return 1 - distribution(1 - x, beta, alpha)
    front = math.exp(_log_factor(alpha, beta) + alpha * math.log(x) + beta * math.log1p(-x)) / alpha
    return front / _fraction(x, alpha, beta)


def _fraction(x: float, alpha: float, beta: float) -> float:
    """Return 1 + d1/(1 + d2/(1 + …)) by Lentz's method."""
    value, upper, lower = 1.0, 1.0, 0.0
    for term in range(1, _MOST_TERMS):
        half = term // 2
        odd, even = -(alpha + half) * (alpha + beta + half) * x, half * (beta - half) * x
        numerator = odd if term % 2 else even
        d = numerator / ((alpha + term - 1) * (alpha + term))
        lower = 1 / (1 + d * lower or _TINY)
        upper = 1 + d / upper or _TINY
        value *= upper * lower
        if abs(upper * lower - 1) < _ENOUGH:
            break
    return value
