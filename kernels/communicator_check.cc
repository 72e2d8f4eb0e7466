#include "kernels/communicator_check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "kernels/op.h"
#include "kernels/tensor.h"

namespace muster {
namespace {

constexpr int64_t kCount = 30'000;  // of a rank

float ValueOf(size_t rank, int64_t i) {
  return static_cast<float>((static_cast<int64_t>(rank) * 7 + i) % 101 - 50);
}

// Each rank's arrays, and a stream on its device.
struct Ranks {
  // `before` and `after`: elements that a rank sends and receives.
  Ranks(std::span<const std::unique_ptr<Device>> devices, int64_t before, int64_t after)
      : received(after) {
    for (const auto& device : devices) {
      streams.push_back(device->MakeStream());
      from.emplace_back(*device, static_cast<size_t>(before) * sizeof(float));
      to.emplace_back(*device, static_cast<size_t>(after) * sizeof(float));
      calls.push_back(streams.back().get());
      send.push_back(from.back().data());
      receive.push_back(to.back().data());
      std::vector<float> values(static_cast<size_t>(before));
      for (int64_t i = 0; i < before; ++i) {
        values[static_cast<size_t>(i)] = ValueOf(from.size() - 1, i);
      }
      CopyToDevice(*streams.back(), values, Tensor(from.back().data(), {before}));
      if (status.ok()) status = streams.back()->Synchronize();
    }
  }

  // How far what was received is from `want` of a rank and an element.
  OpCheck Compare(const char* name, const std::function<float(size_t, int64_t)>& want) {
    OpCheck check{.op = name, .allowed = 0, .status = status};
    std::vector<float> got(static_cast<size_t>(received));
    for (size_t r = 0; r < to.size() && check.status.ok(); ++r) {
      check.status = CopyToHost(*streams[r], ConstTensor(to[r].data(), {received}), got);
      for (int64_t i = 0; i < received; ++i) {
        const double difference = got[static_cast<size_t>(i)] - want(r, i);
        check.difference = std::max(check.difference, std::abs(difference));
      }
    }
    return check;
  }

  const int64_t received;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<Buffer> from, to;
  std::vector<Stream*> calls;
  std::vector<const float*> send;
  std::vector<float*> receive;
  absl::Status status;
};

}  // namespace

std::vector<OpCheck> CheckCommunicator(std::span<const std::unique_ptr<Device>> devices,
                                       Communicator& communicator) {
  const size_t ranks = devices.size();
  const int64_t all = kCount * static_cast<int64_t>(ranks);
  std::vector<OpCheck> checks;
  {
    Ranks on(devices, all, kCount);
    if (on.status.ok()) {
      on.status = communicator.ReduceScatter(on.calls, on.send, on.receive, kCount);
    }
    checks.push_back(on.Compare("reduce-scatter", [ranks](size_t r, int64_t i) {
      float sum = 0;
      for (size_t k = 0; k < ranks; ++k) sum += ValueOf(k, static_cast<int64_t>(r) * kCount + i);
      return sum;
    }));
  }
  Ranks on(devices, kCount, all);
  if (on.status.ok()) on.status = communicator.AllGather(on.calls, on.send, on.receive, kCount);
  checks.push_back(on.Compare("all-gather", [](size_t, int64_t i) {
    return ValueOf(static_cast<size_t>(i / kCount), i % kCount);
  }));
  return checks;
}

}  // namespace muster
