"""Times neural-tangents' empirical tangent kernel on the network of bench/ntk, with the same options; prints one JSON line.

cold_s is the first call: tracing, compilation and the first answer; best_s the fastest of the later ones, cpu_s their mean processor time. Needs neural-tangents 0.6.5 and a jax it
imports on, for instance jax 0.4.20. Threads: set OMP_NUM_THREADS for others; XLA's own pool is bound by the processors given with --threads.
"""
import argparse
import json
import os
import resource
import sys
import time

sys.path.pop(0)  # this folder: the script bears the name of the package it times

METHODS = {'automatic': 0, 'jacobian_contraction': 1, 'vector_products': 2, 'structured': 3}  # the peer's numbers of its implementations


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('n', 1024), ('inputs', 784), ('width', 512), ('depth', 2), ('outputs', 10), ('threads', 0), ('repeat', 5)):
        parser.add_argument('--' + name, type=int, default=default)
    parser.add_argument('--network', choices=('dense', 'conv'), default='dense')
    parser.add_argument('--layout', choices=('full', 'trace'), default='full')
    parser.add_argument('--method', choices=tuple(METHODS), default='structured')
    parser.add_argument('--dtype', choices=('f32', 'f64'), default='f32')
    parser.add_argument('--once', action='store_true')  # the first call alone: a process whose whole time is of interest
    return parser.parse_args()


def seconds(kernel, *arguments):
    wall, processor = time.perf_counter(), time.process_time()
    kernel(*arguments).block_until_ready()
    return time.perf_counter() - wall, time.process_time() - processor


def main():
    o = options()
    if o.threads > 0:  # before jax starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:o.threads])
    import jax
    jax.config.update('jax_enable_x64', o.dtype == 'f64')
    import neural_tangents as nt
    from neural_tangents import stax

    if o.network == 'conv':
        hidden = [layer for _ in range(o.depth) for layer in (stax.Conv(o.width, (3, 3), padding='SAME', W_std=1.5, b_std=0.05), stax.Erf())] + [stax.GlobalAvgPool()]
    else:
        hidden = [layer for _ in range(o.depth) for layer in (stax.Dense(o.width, 1.5, 0.05), stax.Erf())]
    image = (o.inputs, o.inputs, 3) if o.network == 'conv' else (o.inputs,)
    init, apply, _ = stax.serial(*hidden, stax.Dense(o.outputs, 1.5, 0.05))
    x = jax.random.normal(jax.random.PRNGKey(1), (o.n, *image))
    _, params = init(jax.random.PRNGKey(0), (-1, *image))
    kernel = jax.jit(nt.empirical_ntk_fn(apply, trace_axes=() if o.layout == 'full' else (-1,), vmap_axes=0, implementation=METHODS[o.method]))
    cold, _ = seconds(kernel, x, None, params)
    if o.once:
        print(json.dumps({'peer': 'neural-tangents ' + nt.__version__, **vars(o), 'cold_s': round(cold, 5)}))
        return
    warm = [seconds(kernel, x, None, params) for _ in range(o.repeat)]
    print(json.dumps({'peer': 'neural-tangents ' + nt.__version__, 'jax': jax.__version__, **vars(o), 'cold_s': round(cold, 5), 'best_s': round(min(w for w, _ in warm), 5),
                      'cpu_s': round(sum(c for _, c in warm) / o.repeat, 5), 'peak_mb': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))


if __name__ == '__main__':
    main()
