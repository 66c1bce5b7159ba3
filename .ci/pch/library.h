// What nearly every file of the library includes, compiled once where b_pch is on: continuous integration builds from nothing.
#include "linnet/autodiff/executor.h"
#include "linnet/autodiff/fail.h"
#include "linnet/autodiff/ops.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
