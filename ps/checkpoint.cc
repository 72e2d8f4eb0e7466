#include "ps/checkpoint.h"

#include <absl/container/flat_hash_set.h>
#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "kernels/philox.h"
#include "telemetry/file.h"

namespace muster::ps {
namespace {

constexpr const char* kFormat = "muster-1";

// "<param>[.<slot>]", and "[begin:end]" when the slice is not the whole parameter.
std::string TensorName(const ParamTable& table, const ParamSlice& slice, const std::string& slot) {
  const ParamSpec& spec = table.specs()[static_cast<size_t>(slice.param)];
  std::string name = slot.empty() ? spec.name : fmt::format("{}.{}", spec.name, slot);
  if (slice.size == spec.size()) return name;
  return fmt::format("{}[{}:{}]", name, slice.begin, slice.begin + slice.size);
}

std::vector<int64_t> TensorShape(const ParamTable& table, const ParamSlice& slice) {
  const ParamSpec& spec = table.specs()[static_cast<size_t>(slice.param)];
  return slice.size == spec.size() ? spec.shape : std::vector<int64_t>{slice.size};
}

// Whether an optimizer keeps state for it.
bool HasSlots(const ParamSpec& spec) { return spec.kind == ParamSpec::Kind::kWeight; }

// A tensor's name taken apart.
struct ParsedName {
  std::string_view base;  // "<param>" or "<param>.<slot>"
  bool whole = true;
  int64_t begin = 0, end = 0;  // when not whole
};

bool ParseNumber(std::string_view text, int64_t& out) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && out >= 0;
}

bool ParseName(std::string_view name, ParsedName& out) {
  const size_t bracket = name.find('[');
  out.base = name.substr(0, bracket);
  if (bracket == std::string_view::npos) return true;
  const size_t colon = name.find(':', bracket);
  if (colon == std::string_view::npos || name.back() != ']') return false;
  out.whole = false;
  return ParseNumber(name.substr(bracket + 1, colon - bracket - 1), out.begin) &&
         ParseNumber(name.substr(colon + 1, name.size() - colon - 2), out.end) &&
         out.begin < out.end;
}

// The parameter whose name, alone or with ".<slot>", is `base`; -1 when there is none. The longest
// name wins, as parameters may have dots in their names.
ParamId FindParam(const ParamTable& table, std::string_view base, std::string& slot) {
  ParamId best = -1;
  size_t best_length = 0;
  for (size_t i = 0; i < table.specs().size(); ++i) {
    const std::string& name = table.specs()[i].name;
    if (!base.starts_with(name)) continue;
    if (base.size() > name.size() && base[name.size()] != '.') continue;
    if (best >= 0 && name.size() <= best_length) continue;
    best = static_cast<ParamId>(i);
    best_length = name.size();
  }
  if (best >= 0) slot = base.size() > best_length ? base.substr(best_length + 1) : "";
  return best;
}

absl::StatusOr<int64_t> ReadNumber(const SafetensorsFile& file, const std::string& key) {
  const std::string* text = file.metadata(key);
  int64_t value = 0;
  if (text == nullptr || !ParseNumber(*text, value)) {
    return absl::DataLossError(
        fmt::format("{}: its metadata has no number '{}'; it is no "
                    "checkpoint part of Muster, or damaged",
                    file.path(), key));
  }
  return value;
}

}  // namespace

std::string ModelFingerprint(const ParamTable& table) {
  std::string text;
  for (const ParamSpec& spec : table.specs()) {
    text += spec.name;
    text.push_back('\0');
    for (const int64_t dim : spec.shape) text += fmt::format("{},", dim);
    text += spec.kind == ParamSpec::Kind::kWeight ? "w;" : "s;";
  }
  return fmt::format("{:016x}", HashName(text));
}

std::string CheckpointPartPath(const std::string& directory, int server) {
  return fmt::format("{}/ps-{}.safetensors", directory, server);
}

absl::Status WriteCheckpointPart(const std::string& path, const ParamTable& table,
                                 const Partition& partition,
                                 const std::vector<std::string>& slot_names, int64_t clock,
                                 std::span<const SavedSlice> slices,
                                 std::map<std::string, std::string> more_metadata) {
  std::vector<TensorView> tensors;
  absl::flat_hash_set<std::string> names;
  std::map<std::string, std::string> metadata = std::move(more_metadata);
  metadata["format"] = kFormat;
  metadata["clock"] = std::to_string(clock);
  metadata["model"] = ModelFingerprint(table);
  for (const SavedSlice& saved : slices) {
    absl::Status status;
    ForEachPart(
        table, partition.slices[static_cast<size_t>(saved.slice)],
        [&](const ParamSlice& part, int64_t at) {
          const ParamSpec& spec = table.specs()[static_cast<size_t>(part.param)];
          const auto add = [&](const std::string& slot, const std::vector<float>& data) {
            tensors.push_back(
                {TensorName(table, part, slot), TensorShape(table, part),
                 std::span(data).subspan(static_cast<size_t>(at), static_cast<size_t>(part.size))});
            return names.insert(tensors.back().name).second;
          };
          bool unique = add("", saved.weights);
          metadata["version." + tensors.back().name] = std::to_string(saved.version);
          for (size_t i = 0; i < saved.slots.size() && HasSlots(spec); ++i) {
            unique = add(slot_names[i], saved.slots[i]) && unique;
          }
          if (!unique && status.ok()) {
            status = absl::InvalidArgumentError(fmt::format(
                "{}: two tensors would be named alike: a parameter's name is '{}' with a slot's "
                "name behind it; rename the parameter",
                path, spec.name));
          }
        });
    RETURN_IF_ERROR(status);
  }
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return ErrnoStatus(error.value(), "cannot make the folder " + folder.string());
  return WriteSafetensors(path, tensors, std::move(metadata));
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::vector<std::string>& files,
                                            const ParamTable& table) {
  if (files.empty()) return absl::InvalidArgumentError("a checkpoint of no files");
  Checkpoint checkpoint(table);
  for (const std::string& path : files) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    checkpoint.files_.push_back(std::make_unique<SafetensorsFile>(std::move(file)));
    RETURN_IF_ERROR(checkpoint.Index(*checkpoint.files_.back()));
  }
  RETURN_IF_ERROR(checkpoint.CheckOverlaps());
  return checkpoint;
}

absl::StatusOr<Checkpoint> Checkpoint::OpenAt(const std::vector<std::string>& files,
                                              const ParamTable& table, int64_t clock) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Open(files, table));
  if (checkpoint.clock() == clock) return checkpoint;
  return absl::FailedPreconditionError(
      fmt::format("{}: the part is of clock {}, not {}", files.front(), checkpoint.clock(), clock));
}

absl::Status Checkpoint::Index(const SafetensorsFile& file) {
  const std::string* model = file.metadata("model");
  if (model == nullptr || *model != ModelFingerprint(*table_)) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: it is of another model (fingerprint {}, this model has {}); use the job's own model "
        "and flags, or another job dir",
        file.path(), model == nullptr ? "missing" : *model, ModelFingerprint(*table_)));
  }
  ASSIGN_OR_RETURN(const int64_t clock, ReadNumber(file, "clock"));
  if (clock_ >= 0 && clock != clock_) {
    return absl::FailedPreconditionError(
        fmt::format("{}: it is of clock {}, another part is of {}", file.path(), clock, clock_));
  }
  clock_ = clock;
  for (const auto& [name, tensor] : file.tensors()) {
    RETURN_IF_ERROR(IndexTensor(file, name, tensor));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::IndexTensor(const SafetensorsFile& file, const std::string& name,
                                     const SafetensorsFile::Tensor& tensor) {
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(fmt::format("{}: tensor '{}': {}", file.path(), name, what));
  };
  ParsedName parsed;
  std::string slot;
  if (!ParseName(name, parsed)) return damaged("its name is no slice of a parameter");
  const ParamId param = FindParam(*table_, parsed.base, slot);
  if (param < 0) return damaged("the model has no such parameter");
  const ParamSpec& spec = table_->specs()[static_cast<size_t>(param)];
  if (parsed.whole) parsed.end = spec.size();
  if (parsed.end > spec.size()) {
    return damaged(fmt::format("the parameter has only {} elements", spec.size()));
  }
  if (tensor.shape != TensorShape(*table_, {param, parsed.begin, parsed.end - parsed.begin})) {
    return damaged(
        fmt::format("it has {} elements or another shape than the parameter's {} "
                    "elements",
                    tensor.size, parsed.end - parsed.begin));
  }
  Range range = {parsed.begin, parsed.end, 0, &file, name};
  if (slot.empty()) {
    ASSIGN_OR_RETURN(range.version, ReadNumber(file, "version." + name));
  }
  ranges_[{param, slot}].push_back(std::move(range));
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckOverlaps() {
  for (auto& [key, ranges] : ranges_) {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < ranges.size(); ++i) {
      if (ranges[i].begin >= ranges[i - 1].end) continue;
      return absl::DataLossError(fmt::format(
          "tensors '{}' of {} and '{}' of {} overlap; they are not parts of one checkpoint",
          ranges[i - 1].tensor, ranges[i - 1].file->path(), ranges[i].tensor,
          ranges[i].file->path()));
    }
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::Read(const ParamSlice& slice, const std::string& slot,
                              std::span<float> out) const {
  absl::Status status;
  ForEachPart(*table_, slice, [&](const ParamSlice& part, int64_t at) {
    if (!status.ok()) return;
    if (!slot.empty() && !HasSlots(table_->specs()[static_cast<size_t>(part.param)])) return;
    status =
        ReadPart(part, slot, out.subspan(static_cast<size_t>(at), static_cast<size_t>(part.size)));
  });
  return status;
}

absl::Status Checkpoint::ReadPart(const ParamSlice& part, const std::string& slot,
                                  std::span<float> out) const {
  const std::string& name = table_->specs()[static_cast<size_t>(part.param)].name;
  const int64_t end = part.begin + part.size;
  int64_t at = part.begin;
  const auto missing = [&](int64_t until) {
    return absl::DataLossError(fmt::format(
        "the checkpoint lacks elements {} to {} of '{}'{}: a part is missing ({} parts given, the "
        "first is {})",
        at, until, name, slot.empty() ? "" : fmt::format(", slot '{}'", slot), files_.size(),
        files_.front()->path()));
  };
  const auto ranges = ranges_.find({part.param, slot});
  if (ranges == ranges_.end()) return missing(end);
  for (const Range& range : ranges->second) {
    if (range.end <= at || range.begin >= end) continue;
    if (range.begin > at) return missing(range.begin);
    ASSIGN_OR_RETURN(const std::vector<float> data, range.file->Read(range.tensor));
    const int64_t until = std::min(end, range.end);
    std::copy(data.begin() + (at - range.begin), data.begin() + (until - range.begin),
              out.begin() + (at - part.begin));
    at = until;
  }
  return at < end ? missing(end) : absl::OkStatus();
}

int64_t Checkpoint::Version(const ParamSlice& slice) const {
  int64_t version = 0;
  ForEachPart(*table_, slice, [&](const ParamSlice& part, int64_t) {
    const auto ranges = ranges_.find({part.param, ""});
    if (ranges == ranges_.end()) return;
    for (const Range& range : ranges->second) {
      if (range.end <= part.begin || range.begin >= part.begin + part.size) continue;
      version = std::max(version, range.version);
    }
  });
  return version;
}

absl::StatusOr<std::vector<float>> ReadFullParams(const std::vector<std::string>& files,
                                                  const ParamTable& table) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(files, table));
  std::vector<float> arena(static_cast<size_t>(table.arena_size()), 0.0f);
  for (size_t param = 0; param < table.specs().size(); ++param) {
    const int64_t size = table.specs()[param].size();
    const auto id = static_cast<ParamId>(param);
    RETURN_IF_ERROR(checkpoint.Read({id, 0, size}, "",
                                    std::span(arena).subspan(static_cast<size_t>(table.offset(id)),
                                                             static_cast<size_t>(size))));
  }
  return arena;
}

}  // namespace muster::ps
