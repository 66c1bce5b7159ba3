// The same for tests; doctest's header is not among them, for main.cpp includes it in another way.
#include "linnet/linnet.h"

#include <cmath>
#include <limits>
#include <random>
