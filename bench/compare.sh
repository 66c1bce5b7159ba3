#!/usr/bin/env bash
# compare.sh NAME: times bench/ntk and the peer on one case in the same session, in turns, and prints their JSON lines.
#   names: full        1024 examples, 784-512-512-10, full kernel
#          traced      the same, summed over outputs
#          one_output  1024 examples, 784-1024-1024-1
#          small       256 examples, 784-512-512-10, full
#          conv        128 images 32 x 32 x 3, 3 convolutions of 32 channels, average over all places, 10 outputs; the peer is fastest with --method jacobian_contraction
#   BUILD   folder of the build (default: build)
#   PEER    a Python that has neural-tangents (default: python3)
#   THREADS, TURNS  (default: all, 2)
#   START=1 one kernel a process, and the seconds from its start to its end
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
  full) case=(--n 1024 --inputs 784 --width 512 --depth 2 --outputs 10 --layout full) ;;
  traced) case=(--n 1024 --inputs 784 --width 512 --depth 2 --outputs 10 --layout trace) ;;
  one_output) case=(--n 1024 --inputs 784 --width 1024 --depth 2 --outputs 1 --layout full) ;;
  small) case=(--n 256 --inputs 784 --width 512 --depth 2 --outputs 10 --layout full) ;;
  conv) case=(--n 128 --network conv --inputs 32 --width 32 --depth 3 --outputs 10 --layout full) ;;
  *) echo "compare.sh: a name is needed: full, traced, one_output, small or conv; see the head of $0" >&2; exit 2 ;;
esac
shift
case+=(--threads "${THREADS:-$(nproc)}" "$@")  # further options, understood by both: --dtype f64
unset OPENBLAS_CORETYPE  # slows NumPy down on some processors
export OMP_PROC_BIND=${OMP_PROC_BIND:-true}  # or the system may keep short runs of two threads on one processor
program=("${BUILD:-$here/../build}/bench/ntk") peer=("${PEER:-python3}" "$here/peers/neural_tangents.py")
timed() { "$@"; }
if [ -n "${START:-}" ]; then
  program+=(--once) peer+=(--once)
  TIMEFORMAT='{"process_s": %R, "process_cpu_s": %U}'
  timed() { time "$@"; }
fi
for _ in $(seq "${TURNS:-2}"); do
  timed "${program[@]}" "${case[@]}"
  timed "${peer[@]}" "${case[@]}"
done
