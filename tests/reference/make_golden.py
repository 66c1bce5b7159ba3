"""Reference cases from neural-tangents 0.6.5 (jax 0.4.20, float64), NAME.json and NAME.npz a case.

usage: make_golden.py OUT_DIR [CASE…]
Layout and meaning of every file: README.md beside it.
"""
import json, os, sys, math
import numpy as onp
import jax
jax.config.update('jax_enable_x64', True)
import jax.numpy as np
from jax import random, tree_util
from jax.flatten_util import ravel_pytree
import neural_tangents as nt
from neural_tangents import stax

OUT = sys.argv[1]

# ---- model specs -> stax -------------------------------------------------
def build(spec):
    s = dict(spec); k = s.pop('type')
    if k == 'serial':   return stax.serial(*[build(l) for l in s['layers']])
    if k == 'parallel': return stax.parallel(*[build(l) for l in s['layers']])
    if k == 'dense':
        return stax.Dense(s['out'], W_std=s.get('W_std', 1.0), b_std=s.get('b_std'),
                          parameterization=s.get('parameterization', 'ntk'))
    if k == 'conv':
        return stax.Conv(s['out'], tuple(s['filter']), tuple(s.get('strides', (1,)*len(s['filter']))),
                         s.get('padding', 'VALID'), W_std=s.get('W_std', 1.0), b_std=s.get('b_std'),
                         parameterization=s.get('parameterization', 'ntk'))
    if k == 'avg_pool': return stax.AvgPool(tuple(s['window']), tuple(s['strides']), s.get('padding', 'VALID'), s.get('normalize_edges', False))
    if k == 'sum_pool': return stax.SumPool(tuple(s['window']), tuple(s['strides']), s.get('padding', 'VALID'))
    if k == 'layer_norm': return stax.LayerNorm(axis=tuple(s['axis']) if isinstance(s.get('axis'), list) else s.get('axis', -1), eps=s.get('eps', 1e-12))
    if k == 'attention':
        return stax.GlobalSelfAttention(n_chan_out=s['out'], n_chan_key=s['key'], n_chan_val=s['value'], n_heads=s['heads'],
            linear_scaling=s.get('linear_scaling', True), W_key_std=s.get('W_key_std', 1.0), W_value_std=s.get('W_value_std', 1.0),
            W_query_std=s.get('W_query_std', 1.0), W_out_std=s.get('W_out_std', 1.0), b_std=s.get('b_std'), attention_mechanism=s.get('mechanism', 'SOFTMAX'),
            pos_emb_type=s.get('pos_emb', 'NONE'), n_chan_pos_emb=s.get('pos_emb_channels'), W_pos_emb_std=s.get('W_pos_emb_std', 1.0), val_pos_emb=s.get('val_pos_emb', False))
    if k == 'repeat': return stax.serial(*[build(s['layer'])] * s['n'])
    simple = dict(erf=stax.Erf, relu=stax.Relu, gelu=stax.Gelu, sin=stax.Sin, cos=stax.Cos, abs=stax.Abs,
                  sigmoid_like=stax.Sigmoid_like, identity=stax.Identity, flatten=stax.Flatten,
                  global_avg_pool=stax.GlobalAvgPool, global_sum_pool=stax.GlobalSumPool,
                  fan_in_sum=stax.FanInSum, fan_in_prod=stax.FanInProd,
                  gaussian=stax.Gaussian, exp=stax.Exp, gabor=stax.Gabor)
    if k == 'fan_out': return stax.FanOut(s['n'])
    if k == 'leaky_relu': return stax.LeakyRelu(s['alpha'])
    if k == 'rbf': return stax.Rbf(s['gamma'])
    if k == 'monomial': return stax.Monomial(s['degree'])
    if k == 'hermite': return stax.Hermite(s['degree'])
    if k == 'polynomial': return stax.Polynomial(s['coefficients'])
    if k == 'fan_in_concat': return stax.FanInConcat(s.get('axis', -1))
    return simple[k]()

D = lambda out, w=1.5, b=0.05, p='ntk': dict(type='dense', out=out, W_std=w, **({} if b is None else {'b_std': b}), parameterization=p)
A = lambda type_, **k: dict(type=type_, **k)
S = lambda *l: dict(type='serial', layers=list(l))
P = lambda *l: dict(type='parallel', layers=list(l))
C = lambda out, f=(3, 3), st=(1, 1), pad='SAME', w=1.5, b=0.05: dict(type='conv', out=out, filter=list(f), strides=list(st), padding=pad, W_std=w, **({} if b is None else {'b_std': b}))

def mlp(widths, act, out, **k):
    l = []
    for w in widths: l += [D(w, **k), A(act)]
    return S(*l, D(out, **k))

img = (6, 5, 3)
CASES = {
 'fc_erf_scalar':      (mlp([48, 48, 48], 'erf', 1), (7,), 12, 5, 0),
 'fc_erf_multi':       (mlp([24, 40], 'erf', 3), (5,), 9, 4, 1),
 'fc_erf_nobias':      (mlp([32], 'erf', 2, w=1.2, b=None), (6,), 8, 3, 2),
 'fc_erf_standard':    (mlp([30, 20], 'erf', 2, p='standard'), (4,), 8, 5, 3),
 'fc_erf_narrow_many': (mlp([8, 8], 'erf', 1), (3,), 40, 6, 4),   # more examples than width
 'fc_erf_sine_1d':     (mlp([64, 64, 64], 'erf', 1), (1,), 10, 20, 5),
 'fc_relu':            (mlp([33, 17], 'relu', 2, w=1.4142135623730951), (5,), 8, 4, 6),
 'fc_gelu':            (mlp([20, 20], 'gelu', 2), (5,), 7, 4, 7),
 'fc_sin':             (mlp([20], 'sin', 1), (4,), 7, 4, 8),
 'fc_abs_leaky':       (S(D(20), A('abs'), D(16), A('leaky_relu', alpha=0.1), D(2)), (4,), 7, 4, 9),
 'fc_sigmoid_like':    (mlp([20, 12], 'sigmoid_like', 2), (4,), 7, 4, 10),
 'fc_layer_norm':      (S(D(24), A('layer_norm'), A('erf'), D(24), A('layer_norm'), A('relu'), D(2)), (4,), 7, 4, 11),
 'fc_residual':        (S(D(16), A('fan_out', n=2), P(S(A('erf'), D(16)), A('identity')), A('fan_in_sum'), A('erf'), D(2)), (4,), 7, 4, 12),
 'conv_flatten':       (S(C(6), A('relu'), C(5, (3, 2), (2, 1), 'VALID'), A('erf'), A('flatten'), D(2)), img, 5, 3, 13),
 'conv_same_stride':   (S(C(4, (2, 4), (2, 2), 'SAME'), A('erf'), C(5, (3, 3), (2, 1), 'SAME'), A('gelu'), A('avg_pool', window=[2, 2], strides=[1, 1]), A('flatten'), D(2)), (7, 6, 2), 5, 3, 15),
 'conv_standard':      (S(dict(C(5), parameterization='standard'), A('erf'), A('global_avg_pool'), D(2, p='standard')), (5, 5, 2), 5, 3, 16),
 'conv_gap':           (S(C(6), A('erf'), A('avg_pool', window=[2, 2], strides=[2, 1]), C(7), A('relu'), A('global_avg_pool'), D(3)), img, 5, 3, 14),
 'conv_sequence':      (S(C(6, (3,), (2,), 'CIRCULAR'), A('erf'), C(5, (2,), (1,), 'SAME', b=None), A('relu'), A('avg_pool', window=[2], strides=[1], padding='SAME', normalize_edges=True), A('global_sum_pool'), D(2)), (9, 3), 5, 3, 17),
 'conv_branches':      (S(C(4, (2, 3), (2, 1), 'CIRCULAR'), A('layer_norm', axis=[1, 2, 3]), A('fan_out', n=3),
                          P(S(A('erf'), C(3)), S(A('gabor'), C(2)), A('sum_pool', window=[2, 2], strides=[1, 1], padding='CIRCULAR')), A('fan_in_concat'),
                          A('fan_out', n=2), P(A('identity'), S(A('hermite', degree=3), C(9, (1, 2), (1, 1)))), A('fan_in_prod'), A('global_avg_pool'), D(2)), (4, 5, 2), 5, 3, 18),
 'attention':          (S(D(6), dict(type='attention', out=5, key=4, value=3, heads=2, b_std=0.05), A('erf'), A('flatten'), D(2)), (4, 3), 5, 3, 19),
 'transformer':        (S(D(6), A('fan_out', n=2), P(A('identity'), S(A('layer_norm'), dict(type='attention', out=6, key=3, value=2, heads=2, linear_scaling=False, W_query_std=1.3,
                          W_key_std=0.9, W_value_std=1.1, W_out_std=1.2, pos_emb='CONCAT', pos_emb_channels=2, W_pos_emb_std=0.7))), A('fan_in_sum'), A('fan_out', n=2),
                          P(A('identity'), S(A('layer_norm'), D(8), A('gelu'), D(6))), A('fan_in_sum'), A('layer_norm'), A('global_avg_pool'), D(2)), (5, 3), 5, 3, 20),
}
def save(d, name, a):
    onp.save(os.path.join(d, name + '.npy'), onp.ascontiguousarray(onp.asarray(a, dtype=onp.float64)))

def make(name, spec, dshape, n1, n2, seed):
    d = os.path.join(OUT, name); os.makedirs(d, exist_ok=True)
    init, apply, kernel = build(spec)
    ks = random.split(random.PRNGKey(seed), 12)
    x1 = random.normal(ks[0], (n1,) + dshape); x2 = random.normal(ks[1], (n2,) + dshape)
    if 'dup' in name: x1 = x1.at[n1//2:].set(x1[:n1 - n1//2])
    if 'sine_1d' in name:
        x1 = np.linspace(-math.pi, math.pi, n1)[:, None]; x2 = np.linspace(-3.0, 3.0, n2)[:, None]
    _, p0 = init(ks[2], (-1,) + dshape)
    flat, unravel = ravel_pytree(p0)
    leaves = tree_util.tree_leaves(p0)
    def leafsave(prefix, tree):
        for i, l in enumerate(tree_util.tree_leaves(tree)): save(d, f'{prefix}_{i:02d}', l)
    f = lambda p, x: apply(p, x)
    fl = lambda v, x: f(unravel(v), x)
    f1, f2 = f(p0, x1), f(p0, x2)
    O = f1.shape[-1]
    save(d, 'x1', x1); save(d, 'x2', x2); leafsave('param', p0); save(d, 'f1', f1); save(d, 'f2', f2)
    # jvp / vjp / hvp
    tan = unravel(random.normal(ks[3], flat.shape)); cot = random.normal(ks[4], f1.shape); xt = random.normal(ks[5], x1.shape)
    leafsave('tangent', tan); save(d, 'cotangent', cot); save(d, 'x1_tangent', xt)
    save(d, 'jvp_params', jax.jvp(lambda p: f(p, x1), (p0,), (tan,))[1])
    save(d, 'jvp_inputs', jax.jvp(lambda x: f(p0, x), (x1,), (xt,))[1])
    _, vf = jax.vjp(lambda p, x: f(p, x), p0, x1); vp, vx = vf(cot)
    leafsave('vjp_params', vp); save(d, 'vjp_inputs', vx)
    loss = lambda p: 0.5 * np.mean(np.sum(f(p, x1)**2, -1))
    save(d, 'loss', loss(p0)); leafsave('grad', jax.grad(loss)(p0))
    leafsave('hvp', jax.jvp(jax.grad(loss), (p0,), (tan,))[1])
    # finite-width NTK / NNGP by explicit Jacobian
    J1 = jax.jacrev(lambda v: fl(v, x1))(flat).reshape(n1, O, -1); J2 = jax.jacrev(lambda v: fl(v, x2))(flat).reshape(n2, O, -1)
    k11 = np.einsum('iap,jbp->ijab', J1, J1); k21 = np.einsum('iap,jbp->ijab', J2, J1)
    save(d, 'ntk_11', k11); save(d, 'ntk_21', k21)
    t11 = np.einsum('ijaa->ij', k11) / O; t21 = np.einsum('ijaa->ij', k21) / O
    save(d, 'ntk_trace_11', t11); save(d, 'ntk_trace_21', t21)
    save(d, 'nngp_11', f1 @ f1.T / O); save(d, 'nngp_21', f2 @ f1.T / O)
    lib = nt.empirical_ntk_fn(f, trace_axes=(), vmap_axes=0, implementation=2)
    assert onp.allclose(lib(x1, None, p0), k11, rtol=1e-8, atol=1e-9), name
    # infinite width
    has_inf = True
    try:
        kk11 = kernel(x1, None, ('nngp', 'ntk')); kk21 = kernel(x2, x1, ('nngp', 'ntk')); kk22 = kernel(x2, None, ('nngp', 'ntk'))
        for a, b in (('11', kk11), ('21', kk21), ('22', kk22)):
            save(d, f'inf_nngp_{a}', b.nngp); save(d, f'inf_ntk_{a}', b.ntk)
    except Exception as e:
        has_inf = False; print(name, 'no infinite kernel:', str(e)[:80])
    # targets
    y = np.sin(x1.reshape(n1, -1).sum(-1, keepdims=True) + np.arange(O)[None, :]); 
    if 'dup' in name: y = y.at[n1//2:].set(y[:n1 - n1//2])
    save(d, 'y1', y)
    lr = 0.5; ts = [0.0, 0.3, 3.0, 30.0, 3000.0, float('inf')]
    meta = dict(spec=spec, n1=n1, n2=n2, outputs=O, learning_rate=lr, times=[('inf' if math.isinf(t) else t) for t in ts], params=len(leaves), infinite_width=has_inf, cases={})
    # gradient flow on the linearised network, L = 1/(2 n O) |f - y|^2, weight space, by SVD of the Jacobian
    Jf = onp.asarray(J1.reshape(n1 * O, -1)); r0 = onp.asarray(f1 - y).reshape(-1)
    U, s, Vt = onp.linalg.svd(Jf, full_matrices=False)
    keep = s > s.max() * 1e-10
    c = U.T @ r0; lam = s**2 / (n1 * O)
    for i, t in enumerate(ts):
        phi = onp.where(keep, (1.0 if math.isinf(t) else -onp.expm1(-lr * t * lam)) / onp.where(keep, s, 1.0), 0.0)
        dp = -(Vt.T @ (phi * c)); pt = unravel(np.asarray(onp.asarray(flat) + dp))
        leafsave(f'params_t{i}', pt)
        save(d, f'flin_train_t{i}', onp.asarray(f1) + (Jf @ dp).reshape(n1, O))
        save(d, f'flin_test_t{i}', onp.asarray(f2) + (onp.asarray(J2).reshape(n2 * O, -1) @ dp).reshape(n2, O))
        save(d, f'f_test_t{i}', f(pt, x2))
    # exact discrete gradient descent of the linearised network: the loop itself
    lam_max = float((s**2).max() / (n1 * O)); lrd = 1.0 / lam_max; steps = [1, 10, 500]
    v = onp.asarray(flat).copy(); dv = onp.zeros_like(v); k = 0
    for j, T in enumerate(steps):
        while k < T:
            res = r0 + Jf @ dv; dv = dv - lrd * (Jf.T @ res) / (n1 * O); k += 1
        leafsave(f'params_gd{j}', unravel(np.asarray(v + dv)))
        save(d, f'flin_train_gd{j}', onp.asarray(f1) + (Jf @ dv).reshape(n1, O))
    meta['discrete'] = dict(learning_rate=lrd, steps=steps)
    # predict from kernels (library's own answers)
    def predictions(tag, ktt, ktd, kdd_nngp=None, **kw):
        pf = nt.predict.gradient_descent_mse(ktt, y, learning_rate=lr, **kw)
        for i, t in enumerate(ts):
            a, b = pf(None if math.isinf(t) else t, f1, f2, ktd)
            save(d, f'{tag}_train_t{i}', a); save(d, f'{tag}_test_t{i}', b)
    predictions('mse_emp_trace', t11, t21, diag_reg=1e-3)
    meta['cases']['mse_emp_trace'] = dict(kernel='ntk_trace', diag_reg=1e-3)
    meta['cases']['momentum'] = None
    if has_inf:
        predictions('mse_inf', kk11.ntk, kk21.ntk, diag_reg=1e-4)
        meta['cases']['mse_inf'] = dict(kernel='inf_ntk', diag_reg=1e-4)
        gp = nt.predict.gradient_descent_mse_ensemble(kernel, x1, y, learning_rate=lr, diag_reg=1e-4)
        for i, t in enumerate(ts):
            for g in ('nngp', 'ntk'):
                o = gp(t=None if math.isinf(t) else t, x_test=x2, get=g, compute_cov=True)
                save(d, f'ens_{g}_mean_t{i}', o.mean); save(d, f'ens_{g}_cov_t{i}', o.covariance)
        meta['cases']['ensemble'] = dict(diag_reg=1e-4)
        kt = kernel(x1, None, ('nngp', 'ntk'))
        inf = nt.predict.gp_inference(kt, y, diag_reg=1e-2)
        kt2 = kernel(x2, x1, ('nngp', 'ntk')); k22 = kernel(x2, None, ('nngp', 'ntk'))
        for g in ('nngp', 'ntk'):
            o = inf(g, kt2, k22.nngp if g == 'nngp' else k22)
            save(d, f'gp_{g}_mean', o.mean); save(d, f'gp_{g}_cov', o.covariance)
        meta['cases']['gp_inference'] = dict(diag_reg=1e-2)
        save(d, 'max_lr_inf', nt.predict.max_learning_rate(kk11.ntk, y_train_size=y.size))
    # gradient-descent ODE with momentum (mse) in function space
    try:
        loss_y = lambda fx, yy: 0.5 * np.mean((fx - yy)**2)
        pm = nt.predict.gradient_descent(loss_y, t11 + 0 * t11, y, learning_rate=lr, momentum=0.9)
        stt = pm(3.0, f1, f2, t21)
        save(d, 'momentum_train', stt[0]); save(d, 'momentum_test', stt[1])
        meta['cases']['momentum'] = dict(kernel='ntk_trace', momentum=0.9, time=3.0, note='ODE solver, rtol about 1e-6')
    except Exception as e:
        meta['cases'].pop('momentum'); print(name, 'momentum', str(e)[:100])
    # second order Taylor expansion at a moved point
    moved = tree_util.tree_map(lambda a, b: a + 0.1 * b, p0, tan)
    save(d, 'linearize_f2', nt.linearize(f, p0)(moved, x2)); save(d, 'taylor2_f2', nt.taylor_expand(f, p0, 2)(moved, x2))
    meta['moved'] = 'params + 0.1 * tangent'
    files = sorted(os.listdir(d))
    onp.savez(d + '.npz', **{f[:-4]: onp.load(os.path.join(d, f)) for f in files})
    for f in files: os.remove(os.path.join(d, f))
    os.rmdir(d)
    json.dump(meta, open(d + '.json', 'w'), indent=1)
    print(name, 'ok', 'P', flat.size, flush=True)

for n, a in CASES.items():
    if sys.argv[2:] and n not in sys.argv[2:]: continue
    try: make(n, *a)
    except Exception as e:
        import traceback; traceback.print_exc(); print(n, 'FAILED', e)
