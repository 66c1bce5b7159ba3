// Everything of ntk.
#pragma once

#include "linnet/ntk/distributed.h"
#include "linnet/ntk/empirical.h"
#include "linnet/ntk/lanczos.h"
#include "linnet/ntk/linearized.h"
#include "linnet/ntk/monte_carlo.h"
#include "linnet/ntk/operator.h"
#include "linnet/ntk/parts.h"
#include "linnet/ntk/plan.h"
#include "linnet/ntk/store.h"
