// Everything of predict: training dynamics of linearized networks. Start at trained.h, which has closed forms; loss_flow.h has any loss.
#pragma once

#include "linnet/predict/conjugate_gradients.h"
#include "linnet/predict/dynamics.h"
#include "linnet/predict/ensemble.h"
#include "linnet/predict/evidence.h"
#include "linnet/predict/krylov.h"
#include "linnet/predict/law.h"
#include "linnet/predict/loss.h"
#include "linnet/predict/loss_flow.h"
#include "linnet/predict/posterior.h"
#include "linnet/predict/relinearize.h"
#include "linnet/predict/spectral.h"
#include "linnet/predict/spectrum.h"
#include "linnet/predict/trained.h"
#include "linnet/predict/validity.h"
