#include "master/status_line.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "master/json_fields.h"

namespace muster::master {
namespace {

constexpr std::array<const char*, 3> kLevels = {"info", "warning", "error"};

void Put(Json& json, const char* name, const std::optional<double>& value) {
  if (value.has_value()) json[name] = *value;
}

struct Encoder {
  Json operator()(const UnknownLine&) const { return {{"kind", "unknown"}}; }
  Json operator()(const ListeningLine& line) const {
    return {{"kind", "listening"}, {"address", line.address}};
  }
  Json operator()(const StateLine& line) const {
    Json json = {{"kind", "state"}, {"state", RunStateName(line.state)}, {"text", line.text}};
    if (line.wrong_input) json["wrongInput"] = true;
    return json;
  }
  Json operator()(const ProgressLine& line) const {
    Json json = {{"kind", "progress"}, {"step", line.step}, {"totalSteps", line.total_steps}};
    Put(json, "loss", line.loss);
    Put(json, "validationAccuracy", line.validation_accuracy);
    Put(json, "samplesPerSecond", line.samples_per_second);
    if (line.lagging.empty()) return json;
    Json& lagging = json["lagging"] = Json::array();
    for (const LaggingReplica& replica : line.lagging) {
      lagging.push_back({{"role", replica.role},
                         {"index", replica.index},
                         {"stepsBehind", replica.steps_behind},
                         {"silentMs", replica.silent_ms}});
    }
    return json;
  }
  Json operator()(const ReplicaLine& line) const {
    return {{"kind", "replica"},     {"role", line.role}, {"index", line.index},
            {"state", line.state},   {"pid", line.pid},   {"host", line.host},
            {"device", line.device}, {"text", line.text}};
  }
  Json operator()(const MessageLine& line) const {
    return {{"kind", "message"},
            {"level", kLevels[static_cast<size_t>(line.level)]},
            {"text", line.text}};
  }
  Json operator()(const ResultLine& line) const {
    Json json = {{"kind", "result"},
                 {"step", line.step},
                 {"confusion", line.confusion},
                 {"modelPath", line.model_path},
                 {"checkpoint", line.checkpoint}};
    Put(json, "validationAccuracy", line.validation_accuracy);
    Put(json, "testAccuracy", line.test_accuracy);
    return json;
  }
};

StatusLine ReadListening(Fields& fields) {
  ListeningLine line;
  fields.Require("address");
  fields.Read("address", &line.address);
  return line;
}

StatusLine ReadState(Fields& fields) {
  StateLine line;
  std::string name;
  fields.Require("state");
  fields.Read("state", &name);
  if (const std::optional<RunState> state = ParseRunState(name)) {
    line.state = *state;
  } else {
    fields.Fail("state", "a state of a job");
  }
  fields.Read("text", &line.text);
  fields.Read("wrongInput", &line.wrong_input);
  return line;
}

StatusLine ReadProgress(Fields& fields) {
  ProgressLine line;
  fields.Read("step", &line.step);
  fields.Read("totalSteps", &line.total_steps);
  fields.Read("loss", &line.loss);
  fields.Read("validationAccuracy", &line.validation_accuracy);
  fields.Read("samplesPerSecond", &line.samples_per_second);
  if (const Json* lagging = fields.Objects("lagging")) {
    for (const Json& item : *lagging) {
      Fields inner(item, "lagging.");
      LaggingReplica& replica = line.lagging.emplace_back();
      inner.Read("role", &replica.role);
      inner.Read("index", &replica.index);
      inner.Read("stepsBehind", &replica.steps_behind);
      inner.Read("silentMs", &replica.silent_ms);
      fields.Merge(inner.status());
    }
  }
  return line;
}

StatusLine ReadReplica(Fields& fields) {
  ReplicaLine line;
  fields.Require("role");
  fields.Read("role", &line.role);
  fields.Read("index", &line.index);
  fields.Read("state", &line.state);
  fields.Read("pid", &line.pid);
  fields.Read("host", &line.host);
  fields.Read("device", &line.device);
  fields.Read("text", &line.text);
  return line;
}

StatusLine ReadMessage(Fields& fields) {
  MessageLine line;
  std::string level;
  fields.Read("level", &level);
  for (size_t i = 0; i < kLevels.size(); ++i) {
    if (level == kLevels[i]) line.level = static_cast<MessageLine::Level>(i);
  }
  fields.Read("text", &line.text);
  return line;
}

StatusLine ReadResult(Fields& fields) {
  ResultLine line;
  fields.Read("step", &line.step);
  fields.Read("validationAccuracy", &line.validation_accuracy);
  fields.Read("testAccuracy", &line.test_accuracy);
  fields.Read("confusion", &line.confusion);
  fields.Read("modelPath", &line.model_path);
  fields.Read("checkpoint", &line.checkpoint);
  return line;
}

constexpr std::pair<std::string_view, StatusLine (*)(Fields&)> kReaders[] = {
    {"listening", ReadListening}, {"state", ReadState},     {"progress", ReadProgress},
    {"replica", ReadReplica},     {"message", ReadMessage}, {"result", ReadResult},
};

}  // namespace

bool SaysWrongInput(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ||
         absl::IsFailedPrecondition(status) || absl::IsPermissionDenied(status);
}

StateLine EndedBy(const absl::Status& status, bool training_began) {
  StateLine line;
  line.state = absl::IsCancelled(status) ? RunState::kCancelled : RunState::kFailed;
  line.text = std::string(status.message());
  line.wrong_input = !training_began && SaysWrongInput(status);
  return line;
}

std::string EncodeStatusLine(const StatusLine& line) {
  return DumpJson(std::visit(Encoder(), line));
}

absl::StatusOr<StatusLine> DecodeStatusLine(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text));
  Fields fields(json);
  std::string kind;
  fields.Read("kind", &kind);
  StatusLine line = UnknownLine();
  for (const auto& [name, read] : kReaders) {
    if (kind == name) line = read(fields);
  }
  RETURN_IF_ERROR(fields.status());
  return line;
}

}  // namespace muster::master
