// RowsModule: any of the speech models on small images, of which class c has a bright row. For
// whole clusters whose trainers compute on devices.
#pragma once

#include <memory>
#include <string>

#include "worker/models/models.h"
#include "worker/module.h"

namespace muster::harness {

inline constexpr worker::ImageModelSettings kRowsImage{.frames = 14, .bins = 10, .classes = 4};

struct RowsOptions {
  std::string model = "conv";
  bool alike = false;  // all images are one and the same, so labels say nothing
};

std::unique_ptr<worker::Module> MakeRowsModule(const RowsOptions& options);

}  // namespace muster::harness
