#include "ps/param.h"

#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/optimizer_math.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

constexpr int64_t kAlignment = 16;                  // elements: one cache line
constexpr int64_t kMaxSlice = (4 << 20) / 4;        // elements: 4 MiB
constexpr int64_t kLeastBundle = (4 << 10) / 4;     // elements: 4 KiB
constexpr double kBalanced = 1.05;                  // the fullest server over the mean
constexpr int64_t kMaxElements = int64_t{1} << 48;  // of a model; keeps products and bytes in range

int64_t RoundUp(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

absl::Status CheckSpec(const ParamSpec& spec) {
  if (spec.name.empty()) return absl::InvalidArgumentError("a parameter has no name");
  if (spec.name.find_first_of("[]") != std::string::npos) {
    return absl::InvalidArgumentError(fmt::format(
        "parameter '{}': '[' and ']' mark slices in checkpoints; use another name", spec.name));
  }
  if (spec.codec != nullptr && spec.kind == ParamSpec::Kind::kStatistic) {
    return absl::InvalidArgumentError(
        fmt::format("parameter '{}' is a statistic, which has no gradient to encode with {}",
                    spec.name, spec.codec->name()));
  }
  if (spec.pull_codec != nullptr) {
    if (spec.kind == ParamSpec::Kind::kStatistic) {
      return absl::InvalidArgumentError(
          fmt::format("parameter '{}' is a statistic, which travels as it is and not as {}",
                      spec.name, spec.pull_codec->name()));
    }
  }
  int64_t size = 1;
  for (const int64_t dim : spec.shape) {
    if (dim < 1) {
      return absl::InvalidArgumentError(
          fmt::format("parameter '{}': dimension {} is below 1", spec.name, dim));
    }
    if (__builtin_mul_overflow(size, dim, &size) || size > kMaxElements) {
      return absl::InvalidArgumentError(
          fmt::format("parameter '{}' has more than 2^48 elements", spec.name));
    }
  }
  return absl::OkStatus();
}

bool Encoded(const ParamSpec& spec) { return spec.codec != nullptr || spec.pull_codec != nullptr; }

size_t Bytes(const Codec* codec, int64_t size) {
  return codec == nullptr ? static_cast<size_t>(size) * sizeof(float) : codec->EncodedSize(size);
}

// Cuts [0, size) into pieces of `limit` and a rest. Full pieces, at most eight a server, share out
// evenly; the rests fill the gaps.
void CutParam(ParamId param, int64_t size, int64_t limit, Partition& out) {
  for (int64_t begin = 0; begin < size; begin += limit) {
    out.of_param.back().push_back(static_cast<int32_t>(out.slices.size()));
    out.slices.push_back({param, begin, std::min(limit, size - begin)});
  }
}

// Puts the parameter into the newest slice if that is its neighbour's, and both fit into `limit`.
bool Join(const ParamTable& table, ParamId param, int64_t limit, Partition& out) {
  if (param == 0 || out.slices.empty()) return false;
  const auto spec = [&](ParamId id) -> const ParamSpec& {
    return table.specs()[static_cast<size_t>(id)];
  };
  ParamSlice& last = out.slices.back();
  const bool whole = last.params > 1 || last.size == spec(last.param).size();
  if (!whole || Encoded(spec(param)) || Encoded(spec(last.param))) return false;
  const int64_t size = table.offset(param) + spec(param).size() - table.offset(last.param);
  if (size > limit) return false;
  last.size = size;
  ++last.params;
  out.of_param.back().push_back(static_cast<int32_t>(out.slices.size() - 1));
  return true;
}

// All parameters, in slices of at most `limit` elements, bundles of `bundle_limit`.
Partition Cut(const ParamTable& table, int num_servers, int64_t limit, int64_t bundle_limit) {
  Partition out;
  out.num_servers = num_servers;
  for (size_t param = 0; param < table.specs().size(); ++param) {
    out.of_param.emplace_back();
    const ParamSpec& spec = table.specs()[param];
    const int64_t unit = Encoded(spec) ? kQuantum : kNormBlock;
    if (Join(table, static_cast<ParamId>(param), bundle_limit, out)) continue;
    CutParam(static_cast<ParamId>(param), spec.size(), limit / unit * unit, out);
  }
  return out;
}

// Gives the slices to servers; the fullest server over the mean.
double Place(Partition& partition) {
  std::vector<int64_t> sizes;
  for (const ParamSlice& slice : partition.slices) sizes.push_back(slice.size);
  partition.server = BalanceByWeight(sizes, partition.num_servers);
  std::vector<int64_t> load(static_cast<size_t>(partition.num_servers), 0);
  int64_t total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    load[static_cast<size_t>(partition.server[i])] += sizes[i];
    total += sizes[i];
  }
  return static_cast<double>(*std::max_element(load.begin(), load.end())) * partition.num_servers /
         static_cast<double>(std::max<int64_t>(total, 1));
}

}  // namespace

std::string SliceName(const ParamTable& table, const ParamSlice& slice) {
  const auto& specs = table.specs();
  const std::string& name = specs[static_cast<size_t>(slice.param)].name;
  if (slice.params == 1) {
    return fmt::format("'{}'[{}:{}]", name, slice.begin, slice.begin + slice.size);
  }
  return fmt::format("'{}' to '{}'", name,
                     specs[static_cast<size_t>(slice.param + slice.params - 1)].name);
}

void ForEachPart(const ParamTable& table, const ParamSlice& slice,
                 absl::FunctionRef<void(const ParamSlice& part, int64_t at)> visit) {
  if (slice.params == 1) return visit(slice, 0);
  for (ParamId param = slice.param; param < slice.param + slice.params; ++param) {
    visit({param, 0, table.specs()[static_cast<size_t>(param)].size()},
          table.offset(param) - table.offset(slice.param));
  }
}

absl::StatusOr<ParamTable> ParamTable::Make(std::vector<ParamSpec> specs) {
  ParamTable table;
  absl::flat_hash_set<std::string> names;
  for (const ParamSpec& spec : specs) {
    RETURN_IF_ERROR(CheckSpec(spec));
    if (!names.insert(spec.name).second) {
      return absl::InvalidArgumentError(
          fmt::format("two parameters are named '{}'; give one another name", spec.name));
    }
    table.offsets_.push_back(table.arena_size_);
    table.arena_size_ += RoundUp(spec.size(), kAlignment);
    table.total_size_ += spec.size();
    if (table.total_size_ > kMaxElements) {
      return absl::InvalidArgumentError("the parameters have more than 2^48 elements in all");
    }
  }
  table.specs_ = std::move(specs);
  return table;
}

std::vector<int> BalanceByWeight(const std::vector<int64_t>& weights, int bins) {
  CHECK_GE(bins, 1);
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  std::vector<int64_t> load(static_cast<size_t>(bins), 0);
  std::vector<int> bin(weights.size());
  for (const size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += weights[i];
    bin[i] = static_cast<int>(least - load.begin());
  }
  return bin;
}

size_t PushBytes(const ParamTable& table, const ParamSlice& slice) {
  return Bytes(table.specs()[static_cast<size_t>(slice.param)].codec.get(), slice.size);
}

size_t PullBytes(const ParamTable& table, const ParamSlice& slice, bool delta) {
  const Codec* const codec = table.specs()[static_cast<size_t>(slice.param)].pull_codec.get();
  return Bytes(delta || !SendsDeltas(codec) ? codec : nullptr, slice.size);
}

Partition MakePartition(const ParamTable& table, int num_servers) {
  CHECK_GE(num_servers, 1);
  // Slices below what a shard sums at a time would only cost messages.
  const int64_t share = table.total_size() / (8 * num_servers);
  const int64_t bundle_limit = std::clamp(share, kLeastBundle, kQuantum);
  Partition best;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t limit = std::clamp(share, kQuantum, kMaxSlice);
       limit >= kQuantum && least > kBalanced; limit -= limit / 4) {
    Partition partition = Cut(table, num_servers, limit, bundle_limit);
    const double imbalance = Place(partition);
    if (imbalance >= least) continue;
    least = imbalance;
    best = std::move(partition);
  }
  return best;
}

}  // namespace muster::ps
