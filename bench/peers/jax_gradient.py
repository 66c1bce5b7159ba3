"""Times JAX's compiled value and gradient of the network of bench/gradient, with the same options and numbers; prints one JSON line.

With --linnet PROGRAM it runs that program (bench/gradient) before and after, on as many threads, and adds its times and the ratios: how many times longer JAX takes.
Needs jax; its threads are bound by the processors given with --threads.
"""
import argparse
import json
import os
import subprocess
import time

WIDTHS = (784, 512, 512, 512, 10)


def age():
    """Seconds since this process was started, to a hundredth."""
    with open('/proc/self/stat') as file:
        start = int(file.read().rsplit(')', 1)[1].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf('SC_CLK_TCK')


def numbers(shape, seed, size):
    """The numbers of bench/timing.h."""
    import numpy
    n, values, state = int(numpy.prod(shape)), [], 0x9e3779b97f4a7c15 * (seed + 1) & 0xffffffffffffffff
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
        values.append(size * ((state >> 11) * 2.0**-52 - 1))
    return numpy.array(values, numpy.float32).reshape(shape)


def random(shape, seed, size):
    """Other numbers of that size, made quickly: for the time from the start."""
    import numpy
    return numpy.random.default_rng(seed).uniform(-size, size, shape).astype(numpy.float32)


def measure(o):
    import jax
    import jax.numpy as jnp

    def loss(params, x, y):
        for i, (w, b) in enumerate(params):
            x = (jax.scipy.special.erf(x) if i else x) @ w + b
        return jnp.mean((x - y)**2)

    def data(make):
        params = [(make((m, n), 2 * i, m**-0.5), make((n,), 2 * i + 1, n**-0.5)) for i, (m, n) in enumerate(zip(WIDTHS, WIDTHS[1:]))]
        return jax.device_put((params, make((o.examples, WIDTHS[0]), 8, 1), make((o.examples, WIDTHS[-1]), 9, 1)))

    f = jax.jit(jax.value_and_grad(loss))
    jax.block_until_ready(f(*data(random)))
    first = age()
    arguments = data(numbers)
    value = float(f(*arguments)[0])
    wall, processor = [], []
    for _ in range(o.repeat):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(f(*arguments))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    return {'peer': 'jax ' + jax.__version__, 'examples': o.examples, 'threads': o.threads, 'value': round(value, 6), 'first_s': round(first, 4),
            'best_ms': round(1e3 * min(wall), 4), 'cpu_ms': round(1e3 * sorted(processor)[len(processor) // 2], 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('examples', 256), ('threads', 1), ('repeat', 50)):
        parser.add_argument('--' + name, type=int, default=default)
    parser.add_argument('--linnet', help='bench/gradient')
    o = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:o.threads])  # before jax starts its threads

    def linnet():
        command = [o.linnet] + [f'--{name}={getattr(o, name)}' for name in ('examples', 'threads', 'repeat')]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    runs = [linnet()] if o.linnet else []
    peer = measure(o)
    print(json.dumps(peer))
    if not runs:
        return
    runs.append(linnet())
    ours = {key: min(run[key] for run in runs) for key in ('first_s', 'best_ms', 'cpu_ms')}
    print(json.dumps({'bench': 'gradient', 'examples': o.examples, 'threads': o.threads, **ours, 'times_faster_warm': round(peer['best_ms'] / ours['best_ms'], 3),
                      'times_less_processor': round(peer['cpu_ms'] / ours['cpu_ms'], 3), 'times_faster_first': round(peer['first_s'] / ours['first_s'], 2),
                      'values': [runs[0]['value'], peer['value']]}))


if __name__ == '__main__':
    main()
