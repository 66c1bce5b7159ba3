// The same for tests.
#include "linnet/linnet.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
