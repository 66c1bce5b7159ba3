// Everything of ntk.
#pragma once

#include "linnet/ntk/empirical.h"
#include "linnet/ntk/linearized.h"
#include "linnet/ntk/operator.h"
#include "linnet/ntk/store.h"
