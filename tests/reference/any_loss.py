"""The numbers of tests/predict/loss_flow.cpp, "the peer's numbers": neural-tangents 0.6.5 on jax 0.4.20, predict.gradient_descent in double on softmax
cross-entropy and on the logistic loss, as a flow and with momentum, from a kernel of one output."""
import os
os.environ["JAX_PLATFORMS"] = "cpu"
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as np
from neural_tangents import predict

def features(n, shift):
  return np.sin(0.7 * np.arange(n)[:, None] + 1.3 * np.arange(6)[None, :] + shift)

a, b = features(4, 0.1), features(2, 2.0)
f0, f0_test = np.cos(0.4 * np.arange(4)[:, None] + 0.9 * np.arange(3)), np.cos(0.3 * np.arange(2)[:, None] - 0.8 * np.arange(3))
y = np.eye(3)[np.array([0, 2, 1, 2])]

def softmax_cross_entropy(f, y):
  return -np.mean(np.sum(y * jax.nn.log_softmax(f), axis=-1))

def logistic(f, y):
  return np.mean(np.logaddexp(0, f) - y * f)

for loss in (softmax_cross_entropy, logistic):
  for momentum in (None, 0.9):
    run = predict.gradient_descent(loss, a @ a.T, y, learning_rate=0.8, momentum=momentum)
    for t in (2.0, 50.0):
      train, test = run(t, f0, f0_test, b @ a.T)
      print(loss.__name__, momentum, t, "train", [float(v) for v in train.ravel()], "test", [float(v) for v in test.ravel()])
