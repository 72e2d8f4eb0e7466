// ToyModule: a small dense network on points of Gaussian clusters, in plain loops. No OpenMP, no
// files: for whole clusters under tsan.
//
// Network: inputs [16] → dense [16, 32] → tanh → dense [32, 4] → softmax cross entropy.
#pragma once

#include <functional>
#include <memory>

#include "worker/module.h"

namespace muster::harness {

struct ToyOptions {
  int64_t samples = 240;                         // of the training split; the others have a quarter
  int64_t poison_draw = -1;                      // the training sample of this draw is infinite
  int64_t fail_draw = -1;                        // reading the training sample of this draw fails
  std::function<void(int64_t draw)> before_get;  // called before each training sample; may block
};

std::unique_ptr<worker::Module> MakeToyModule(ToyOptions options = {});

}  // namespace muster::harness
