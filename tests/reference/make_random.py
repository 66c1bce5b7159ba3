# The numbers in tests/nn/random.cpp and tests/nn/layer.cpp: JAX 0.4.20 and neural-tangents 0.6.5. Run it and compare with what stands there.
import jax
jax.config.update('jax_threefry_partitionable', False)
jax.config.update('jax_enable_x64', True)
import numpy as np
from jax import random
from neural_tangents import stax

def show(name, a):
  print(name, ', '.join(repr(v) for v in np.asarray(a).ravel().tolist()))

k, w = random.PRNGKey(0), random.PRNGKey(2**40 + 5)
show('key', w)
show('split 2', random.split(k)); show('split 3', random.split(w, 3))
for n in (1, 2, 5):
  show(f'bits32 {n}', random.bits(w, (n,), np.uint32)); show(f'bits64 {n}', random.bits(w, (n,), np.uint64))
big = 1000001
show('xor 32', np.bitwise_xor.reduce(np.asarray(random.bits(k, (big,), np.uint32)))); show('xor 64', np.bitwise_xor.reduce(np.asarray(random.bits(k, (big,), np.uint64))))
show('xor split', np.bitwise_xor.reduce(np.asarray(random.split(k, big)) * np.arange(1, big + 1, dtype=np.uint32)[:, None], axis=0))
for T in (np.float32, np.float64):
  u, v, z = random.uniform(w, (5,), T), random.uniform(w, (2, 3), T, -3.3, 1.7), random.normal(w, (7,), T)
  for name, a in (('uniform', u), ('between', v), ('normal', z)): show(f'{name} {np.dtype(T).name}', a)
  z = np.asarray(random.normal(k, (big,), T)).astype(float)
  for i in (z.argmin(), z.argmax(), abs(z).argmin()): print('  extreme', i, repr(z[i]))
  print('  moments', repr(z.mean()), repr((z**2).mean()))

def net():
  D = lambda out, p='ntk', b=0.05: stax.Dense(out, 1.5, b, parameterization=p)
  branch = stax.serial(stax.Erf(), D(2))
  return stax.serial(D(2), stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum(), stax.Relu(), D(2, 'standard'), D(1, b=None))
for x64 in (False, True):
  jax.config.update('jax_enable_x64', x64)
  init, apply, _ = net()
  _, params = init(random.PRNGKey(3), (-1, 3))
  leaves = [a for a in jax.tree_util.tree_leaves(params)]
  for i, a in enumerate(leaves): show(f'init {a.dtype} {i} {a.shape}', a)
  show('apply', apply(params, np.array([[1, 2, -1], [.5, -.25, 3.]], leaves[0].dtype)))

# tests/nn/convolution.cpp, attention.cpp and dropout.cpp
def inits(name, layer, shape):
  init, apply = layer[:2]
  out, params = init(random.PRNGKey(5), (-1,) + shape)
  for i, a in enumerate(jax.tree_util.tree_leaves(params)): show(f'{name} init {a.dtype} {i} {a.shape}', a)
  dtype = jax.tree_util.tree_leaves(params)[0].dtype
  show(f'{name} apply {out}', apply(params, np.sin(np.arange(2 * np.prod(shape)).reshape((2,) + shape)).astype(dtype)))
for x64 in (False, True):
  jax.config.update('jax_enable_x64', x64)
  inits('conv', stax.Conv(2, (2, 1), (1, 2), 'CIRCULAR', W_std=1.5, b_std=.3), (2, 3, 1))
  inits('sequence', stax.Conv(1, (2,), (2,), 'SAME', W_std=1.5, b_std=.3, parameterization='standard'), (3, 2))
  inits('attention', stax.GlobalSelfAttention(2, 1, 2, 2, linear_scaling=False, W_key_std=1.1, W_value_std=1.2, W_query_std=1.3, W_out_std=1.4, b_std=.3, pos_emb_type='SUM',
                                              W_pos_emb_std=.7, val_pos_emb=True, attention_mechanism='ABS'), (2, 2, 1))
  inits('repeat', stax.repeat(stax.Dense(2, 1.5, .3), 2), (2,))
  drop = lambda rate: stax.Dropout(rate)
  _, apply, _ = stax.serial(drop(.7), stax.FanOut(2), stax.parallel(drop(.5), stax.Identity()), stax.FanInSum(), drop(.9))
  show('dropout', apply(((), (), ((), ()), (), ()), np.ones((3, 5)), rng=random.PRNGKey(9)))
