#!/usr/bin/env bash
# The rules of ARCHITECTURE.md that a look at the text can check. One line for each, then "N passed, N failed".
#   tests/rules.sh [INCLUDE [COMPILER]]   INCLUDE: a folder in which linnet/ is this tree; without it the headers are not compiled
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0
rule() {  # rule TEXT FINDINGS: no findings, no offence
  if [[ -z $2 ]]; then
    passed=$((passed + 1)); printf 'ok    %s\n' "$1"
  else
    failed=$((failed + 1)); printf 'FAIL  %s\n%s\n' "$1" "$2"
  fi
}
sources() { find autodiff nn ntk predict infinite linnet.h -name '*.cpp' -o -name '*.h' | sort; }
all_sources() { find autodiff nn ntk predict infinite tests examples bench linnet.h -name '*.cpp' -o -name '*.h' | sort; }
# Headers that are installed: those that the meson files name.
public_headers() { for f in autodiff nn ntk predict infinite; do grep -h -A3 'headers +=' $f/meson.build | grep -o "'[a-z_]*\.h'" | tr -d "'" | sed "s|^|$f/|"; done; }
installed=$(public_headers)
offences() { grep -nE "$@" || true; }

rule 'OpenMP is in autodiff/kernels/parallel.cpp alone' "$(offences '#pragma omp|<omp\.h>|omp_[a-z]+\(' $(all_sources | grep -v '^autodiff/kernels/parallel.cpp$'))"
rule 'no OpenMP reduction or atomic' "$(offences '#pragma omp.*(reduction|atomic)' $(sources))"
rule 'no atomic floating-point number, no reduction in any order' "$(offences 'atomic(_ref)?<(float|double|T)>|std::(transform_)?reduce\(|std::execution' $(sources))"
rule 'no sum in the order of Eigen' "$(offences '\.(sum|prod|norm|squaredNorm|redux)\(' $(sources))"
rule 'threads come from parallel_for' "$(offences 'std::(jthread|thread|async)\b|<(thread|future)>|pthread_' $(sources))"
rule 'nothing aborts' "$(offences '\b(abort|terminate|_Exit|quick_exit|assert)\(|std::exit\(' $(sources))"
rule 'no fast-math' "$(offences 'ffast-math|Ofast|fassociative-math' $(find . -name meson.build -not -path './build*'))"
rule 'no std::*_distribution in the library' "$(offences 'std::[a-z_]+_distribution' $(sources))"
rule 'no Eigen and no fmt in public headers but eigen.h' "$(offences '#include *<(Eigen|unsupported|fmt)' $(public_headers | grep -v '^autodiff/eigen.h$') linnet.h)"
rule 'public headers include public headers only' "$(for h in $(public_headers); do
  grep -o '#include "linnet/[^"]*"' $h | sed 's|#include "linnet/||; s|"||' | while read -r i; do grep -qx "$i" <<<"$installed" || echo "$h includes $i, which is not installed"; done; done)"
rule 'the library includes itself by linnet/, and no test, example or benchmark' "$(offences '#include "(linnet/(tests|examples|bench)/|[^l]|l[^i]|li[^n]|lin[^n]|linn[^e]|linne[^t]|linnet[^/])' $(sources))"
rule 'autodiff knows no other folder' "$(offences '#include "linnet/(nn|ntk|predict|infinite)/' $(sources | grep '^autodiff/'))"
rule 'nn knows autodiff alone' "$(offences '#include "linnet/(ntk|predict|infinite)/' $(sources | grep '^nn/'))"
rule 'ntk knows autodiff alone' "$(offences '#include "linnet/(nn|predict|infinite)/' $(sources | grep '^ntk/'))"
rule 'predict does not know nn' "$(offences '#include "linnet/(nn|infinite)/' $(sources | grep '^predict/'))"
rule 'infinite does not know predict' "$(offences '#include "linnet/predict/' $(sources | grep '^infinite/'))"
rule 'kernels know no tape' "$(offences '#include "linnet/autodiff/(tape|program|primitive|ops|transform|plan|executor|linear_map|derivative)' autodiff/kernels/*)"
rule 'values and tapes know no program runner' "$(offences '#include "linnet/autodiff/(transform|plan|executor|linear_map|derivative)' autodiff/{shape,array,tape,program,primitive}.{h,cpp} autodiff/tree.h autodiff/ops.h autodiff/ops/{declare,families}.h)"
rule 'transformations know no plan and no executor' "$(offences '#include "linnet/autodiff/(plan|executor)' autodiff/transform.h autodiff/ops/*.cpp)"
rule 'executors know no derivative' "$(offences '#include "linnet/autodiff/(linear_map|derivative|testing)' autodiff/{transform,plan,executor}.h autodiff/{plan,executor,executor_call}.cpp)"
rule 'matrix products are in kernels/gemm.cpp' "$(offences '\.noalias\(\)|Eigen/(Dense|LU|Cholesky|Eigenvalues|SVD|QR)' $(sources | grep -v '^autodiff/kernels/'))"
rule 'no file over 600 lines' "$(for f in $(all_sources); do n=$(wc -l <"$f"); ((n <= 600)) || echo "$f: $n lines"; done)"
rule 'every file opens with a comment or a guard' "$(for f in $(all_sources); do head -1 "$f" | grep -qE '^(//|#)' || echo "$f"; done)"

if (($# > 0)); then
  for h in $(public_headers) linnet.h; do
    rule "linnet/${h#./} compiles alone" "$(printf '#include "linnet/%s"\n' "$h" | ${2:-g++} -std=c++20 -fsyntax-only -Wall -Wextra -isystem /usr/include/eigen3 -I "$1" -x c++ - 2>&1 || true)"
  done
fi
echo "$passed passed, $failed failed"
((failed == 0))
