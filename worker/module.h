// Module: what a user names in `pythonModule` / --module-name: a model, its data, its flags and its
// metrics.
//
// Immutable after Make: thread-safe. A new module is one folder worker/modules/<name>/, one line in
// worker/modules/modules.cc, and its test.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "telemetry/log.h"
#include "telemetry/status.h"
#include "worker/dataset.h"
#include "worker/model.h"

namespace muster {
class Device;  // kernels/device.h
}

namespace muster::worker {

class OnnxBuilder;  // worker/onnx/builder.h

// One of the module's own flags (after `--` or in trainingInput.args). `alias` names the
// `training:` knob that it means, if any, by its path in the job file, e.g. "training.batchSize";
// the launcher then moves the value there and the module never sees the flag.
struct Flag {
  enum class Type {
    kString,
    kInt,
    kDouble,
    kBool,
    kFolder,  // of data, here or brought here: the module reads DataFolder(value)
  };
  std::string name;  // without dashes: "batch_size"
  Type type = Type::kString;
  std::string default_value;
  std::string help;
  std::string alias;
};

// The parsed flags: every flag of the module, defaults filled in.
using FlagValues = std::map<std::string, std::string>;

enum class Split { kTraining, kValidation, kTesting };

// Classification counts of an evaluation: confusion[true * classes + predicted], and the summed
// loss in float64 is not kept: integer counts are summed over replicas, so the result does not
// depend on how the work was shared.
using Confusion = std::vector<int64_t>;

// What stands in an exported model before the layers: how it takes its input from the world.
struct FrontEnd {
  std::string value;  // the value of the graph that the first layer reads: [batch, input_size]
  std::string input;  // the name of the graph's input
  std::vector<int64_t> input_shape;  // its shape, the batch as OnnxBuilder::kBatch
  std::string input_means;           // for module.json: what its numbers are, in a sentence
  std::vector<std::pair<std::string, int64_t>> numbers;  // for module.json: {"sampleRate", 16000} …
};

class Module {
 public:
  virtual ~Module() = default;
  // The model, computing on `device` (borrowed).
  virtual std::unique_ptr<Model> MakeModel(Device& device) const = 0;
  // Scans the data once per split and keeps the result; `seed` is the job's. Fails with what is
  // wrong with the data and what to do.
  virtual absl::StatusOr<std::shared_ptr<const Dataset>> MakeDataset(Split split, uint64_t seed,
                                                                     Log& log) const = 0;
  virtual std::vector<std::string> labels() const = 0;  // by class index

  // For the export: adds the graph's input and the nodes that make the model's inputs of it, all
  // called "front_end/…". The graph is still empty. Nothing (the default): there is no front end,
  // the graph takes the model's inputs as they are.
  virtual absl::StatusOr<std::optional<FrontEnd>> AddFrontEnd(OnnxBuilder&) const {
    return std::optional<FrontEnd>();
  }
  // For `launch predict`: writes what the file holds to `input` [input_size], as a Dataset would in
  // evaluation, but with nothing mixed in. Fails with the file's name and what is wrong with it;
  // Unimplemented (the default) when the module reads no single files.
  virtual absl::Status ReadInput(const std::string& path, std::span<float> /*input*/) const {
    return absl::UnimplementedError(path + ": this job's module reads no single files");
  }
};

struct ModuleType {
  std::string name;  // "speech_commands"; "speech_commands.train" names it too (Python's habit)
  std::vector<Flag> flags;
  // Values of knobs that this module wants where neither file nor flags say anything, by path:
  // {"training.batchSize", "100"} …: taken from the defaults of the aliased flags.
  absl::StatusOr<std::unique_ptr<Module>> (*make)(const FlagValues& flags);
};

// All modules, in the order of the table in worker/modules/modules.cc.
std::span<const ModuleType* const> Modules();

// Finds a module by the name before the first '.'; an unknown one fails with the valid names.
absl::StatusOr<const ModuleType*> FindModule(const std::string& name);

// What is wrong with one of the arguments.
struct FlagProblem {
  size_t arg = 0;     // index into args
  std::string what;   // "unknown flag --batch_sise"
  std::string write;  // "write --batch_size"
};

struct ParsedFlags {
  FlagValues values;                    // every flag of the module
  std::map<std::string, size_t> given;  // name -> index into args, for those that args set
  std::vector<FlagProblem> problems;
};

// Parses `args` ("--name=value", "--name value", "--bool_flag") over the module's flags. A wrong
// argument is reported and its flag keeps the default.
ParsedFlags ParseModuleFlags(const ModuleType& module, std::span<const std::string> args);

// The same for callers without places to report: all problems in one message. `given`, if not null,
// gets the names that args set.
absl::StatusOr<FlagValues> ParseFlags(const ModuleType& module, std::span<const std::string> args,
                                      std::vector<std::string>* given);

// The values of the module's folder flags, each once, without empty ones.
std::vector<std::string> FoldersOf(const ModuleType& module, const FlagValues& values);

}  // namespace muster::worker
