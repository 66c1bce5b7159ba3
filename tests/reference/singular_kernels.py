"""Writes tests/predict/singular_kernels.npz, which tests/predict/singular.cpp reads: what neural-tangents 0.6.5 on jax 0.4.20, predict.gradient_descent_mse in
double, answers for the eight kernels of tests/predict/problem.h at its 17 times, and at t=None (infinity), on training and test rows. The problems are made
here as they are made there, to the last bit or nearly. Besides "pair", two equal examples: the kernel [[1, 1], [1, 1]] and [[1/2, 1/2]], f0 = 0, y = [1, 2].
NaN and infinity are stored as they came."""
import os
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from neural_tangents import predict

times = [1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1, 10, 1e2, 1e3, 1e4, 1e6, 1e8, 1e12, 1e16, 1e20, 1e26]
wide, mask = np.longdouble, 2**64 - 1

class Draw:
  def __init__(self, seed):
    self.state = (seed * 0x9E3779B97F4A7C15 + 1) & mask
  def __call__(self):
    z = self.state = (self.state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 11) * 2.0**-52 - 1
  def array(self, *shape):
    return np.array([self() for _ in range(int(np.prod(shape)))]).reshape(shape)

def product(a, b):
  return (a.astype(wide) @ b.astype(wide)).astype(float)

def orthonormal(rows, columns, draw):
  q = draw.array(columns, rows)
  for i in range(columns):
    for _ in range(3):
      for j in range(i):
        q[i] -= float(q[i].astype(wide) @ q[j].astype(wide)) * q[j]
      q[i] = (q[i] / np.sqrt(q[i].astype(wide) @ q[i].astype(wide))).astype(float)
  return q.T

def of(a, draw):
  theta0, a_test, y = draw.array(a.shape[1]), draw.array(7, a.shape[1]), draw.array(a.shape[0])
  return a, a_test, product(a, theta0), product(a_test, theta0), y

def conditioned(rank, condition, draw):
  u, v = orthonormal(24, rank, draw), orthonormal(40, rank, draw)
  return of(product(u * condition ** (-0.5 * np.arange(rank) / (rank - 1)), v.T), draw)

def eight():
  draw = Draw(1)
  for condition in (10.0, 1e4, 1e8, 1e12):
    yield conditioned(24, condition, draw)
  a = draw.array(24, 40)
  a[3], a[5] = a[10], a[17]
  yield of(a, draw)
  a = draw.array(24, 40)
  a[6] = 0
  yield of(a, draw)
  yield conditioned(12, 100.0, draw)
  yield of(draw.array(24, 9), draw)

train, test, f0 = np.empty((8, 18, 24)), np.empty((8, 18, 7)), np.empty((8, 1, 24))
for p, (a, a_test, f, f_test, y) in enumerate(eight()):
  answer = predict.gradient_descent_mse(product(a, a.T), y[:, None])
  f0[p] = f
  for k, t in enumerate(times + [None]):
    at = answer(t, f[:, None], f_test[:, None], product(a_test, a.T))
    train[p, k], test[p, k] = np.asarray(at[0])[:, 0], np.asarray(at[1])[:, 0]
pair = predict.gradient_descent_mse(np.ones((2, 2)), np.array([[1.0], [2.0]]))
pair = [pair(t, np.zeros((2, 1)), np.zeros((1, 1)), np.full((1, 2), 0.5)) for t in times + [None]]
pair_train, pair_test = (np.stack([np.asarray(at[i])[:, 0] for at in pair]) for i in (0, 1))
np.savez(os.path.join(os.path.dirname(__file__), "..", "predict", "singular_kernels.npz"), f0=f0, test=test, train=train, pair_train=pair_train, pair_test=pair_test)
for p in range(8):
  print(p, "finite train", "".join(".N"[not np.isfinite(x).all()] for x in train[p]), "test", "".join(".N"[not np.isfinite(x).all()] for x in test[p]))
print("pair train", pair_train.tolist(), "test", pair_test.tolist())
