#include "master/one_process.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "ps/residence.h"

namespace muster::master {
namespace {

template <class Spec>
bool Encodes(const Spec& spec) {
  const auto names = [](const std::string& codec) { return !codec.empty() && codec != "none"; };
  return names(spec.push()) || names(spec.pull());
}

}  // namespace

std::string WhyOnHost(const Training& training, const TrainerDevice& device) {
  if (device.devices.front()->host_memory()) return "the trainer computes there";
  if (device.devices.size() > 1) return "several GPUs share each batch";
  const Consistency& consistency = training.consistency();
  if (consistency.mode() != Consistency::BSP || consistency.backup_workers() > 0) {
    return "training.consistency is not plain BSP";
  }
  if (training.optimizer().clip_norm() > 0) return "clipNorm needs norms";
  if (training.optimizer().name() == "lamb") return "lamb needs norms";
  const auto power = training.optimizer().params().find("learning_rate_power");
  if (power != training.optimizer().params().end() && power->second != -0.5) {
    return "a GPU rounds other powers than ftrl's -0.5 differently";
  }
  const CodecSpec& codec = training.codec();
  if (Encodes(codec) || std::ranges::any_of(codec.parameters(), Encodes<ParameterCodec>)) {
    return "training.codec names a codec";
  }
  return "";
}

void ShareDevice(const Training& training, RoleOptions& options) {
  const auto device = std::make_shared<absl::StatusOr<TrainerDevice>>(options.make_device());
  options.make_device = [device] { return std::move(*device); };
  if (!device->ok()) return;
  const std::string why = WhyOnHost(training, **device);
  if (!why.empty()) {
    options.server_device = fmt::format("/cpu:0 (the parameters live on the host: {})", why);
    return;
  }
  const std::string name = (*device)->devices.front()->name();
  options.server_device = fmt::format("{} (the parameters live where the trainer computes)", name);
  options.residence = std::make_shared<ps::Residence>(name);
}

}  // namespace muster::master
