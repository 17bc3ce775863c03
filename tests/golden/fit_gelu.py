"""Fit the polynomial of `minwhisper.model.numerics.normal_cdf` and print its coefficients.

Run: python tests/golden/fit_gelu.py [degree] [limit]

GELU is x/2 (1 + erf(x/√2)). With erf(x/√2) = tanh(x p(x²)), p(u) = artanh(erf(√u/√2)) / √u, which is smooth.
A least-squares fit in Chebyshev polynomials, reweighted repeatedly in favour of points with large errors (Lawson's
algorithm), approaches the polynomial with the smallest maximum error of GELU itself.
"""

import math
import sys

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial, chebyshev


def fit(degree: int, limit: float, points: int = 4000, rounds: int = 300) -> tuple[float, np.ndarray]:
    """Return the largest error of GELU in exact arithmetic and the coefficients of 1, x², x⁴ …, up to x² = limit."""
    t = -np.cos(np.pi * (np.arange(points) + 0.5) / points)  # Chebyshev points of [-1, 1]
    x = np.sqrt((t + 1) / 2 * limit)
    erf = np.vectorize(math.erf)(x / math.sqrt(2))
    goal = np.arctanh(np.minimum(erf, 1 - 1e-16)) / x
    sensitivity = np.maximum(x / 2 * (1 - erf**2) * x, 1e-9)  # the derivative of GELU with respect to p
    basis = chebyshev.chebvander(t, degree)
    weight = sensitivity / sensitivity.max()
    best_error, best = math.inf, np.zeros(degree + 1)
    for _ in range(rounds):
        c = np.linalg.lstsq(basis * weight[:, None], goal * weight, rcond=None)[0]
        error = np.abs((basis @ c - goal) * sensitivity)
        if error.max() < best_error:
            best_error, best = error.max(), c
        weight *= (error / error.max() + 1e-3) ** 0.2
        weight /= weight.max()
    return best_error, Chebyshev(best, domain=[0, limit]).convert(kind=Polynomial).coef


if __name__ == "__main__":
    degree = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    limit = float(sys.argv[2]) if len(sys.argv) > 2 else 32.0
    error, coefficients = fit(degree, limit)
    print(f"degree {degree}, x² <= {limit}: largest error of GELU {error:.2e} before rounding")
    for c in coefficients:
        print(f"    {c:.9g},")
