# The polynomials of nn/random.cpp: erfinv(x)/x in w = -log(1 - x^2) on [0, 6.25], and in sqrt(w) on [2.5, 6.1]; prints coefficients and relative errors.
import numpy as np
from numpy.polynomial import chebyshev, polynomial
from scipy import special

def ratio(w):
  x = np.sqrt(-np.expm1(-w))
  return np.where(x < .5, special.erfinv(x), special.erfcinv(np.exp(-w) / (1 + x))) / x

for low, high, to_w in ((0, 6.25, lambda s: np.maximum(s, 1e-12)), (2.5, 6.1, np.square)):
  middle, radius, degree = (low + high) / 2, (high - low) / 2, 10
  t = np.cos(np.pi * (np.arange(400) + .5) / 400)
  g = ratio(to_w(middle + radius * t))
  c = np.linalg.lstsq(chebyshev.chebvander(t, degree) / g[:, None], np.ones(400), rcond=None)[0]
  p = chebyshev.cheb2poly(c) / radius ** np.arange(degree + 1)
  s = np.linspace(low, high, 100001)
  print(', '.join('%.10g' % v for v in p), ' error', np.abs(polynomial.polyval(s - middle, p) / ratio(to_w(s)) - 1).max())
