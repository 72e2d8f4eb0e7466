#include "configs/job_yaml.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "configs/job_fields.h"
#include "configs/nearest.h"
#include "configs/scalar.h"
#include "configs/secrets.h"
#include "configs/yaml_document.h"

namespace muster {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// What `gcloud … jobs describe` prints beside the settings.
constexpr std::array<std::string_view, 11> kServiceOutputs = {
    "createTime",  "startTime",      "endTime",          "errorMessage",     "etag",
    "jobPosition", "trainingOutput", "predictionOutput", "explanationInput", "explanationOutput",
    "state"};

// Walks one YAML tree over the descriptors of Job and fills the draft. `fixed`, when given, is the
// origin of everything read: a flag.
class JobReader {
 public:
  JobReader(const std::string& file, const Origin* fixed, JobDraft* draft)
      : file_(file), fixed_(fixed), draft_(draft) {}

  void ReadMessage(const YAML::Node& node, const std::string& path, const Origin& at,
                   Message* message);
  void ReadField(const YAML::Node& node, const std::string& path, const Origin& at,
                 const FieldDescriptor* field, Message* message);

 private:
  Origin Place(const YAML::Node& node, const Origin& key) const;
  bool Spent(const Origin& at);
  void Wrongly(const Origin& at, const std::string& path, const Wrong& wrong) {
    draft_->problems.Add(at, path, wrong.what, wrong.write);
  }
  bool IsTagged(const YAML::Node& node, const std::string& path, const Origin& at);
  void ReadKey(const YAML::Node& key, const YAML::Node& value, const std::string& path, bool bare,
               Message* message);
  void UnknownKey(const std::string& key, const Origin& at, const std::string& path,
                  const Message& message);
  void ReadList(const YAML::Node& node, const std::string& path, const Origin& at,
                const FieldDescriptor* field, Message* message);
  void ReadMap(const YAML::Node& node, const std::string& path, const Origin& at,
               const FieldDescriptor* field, Message* message);
  void ReadValue(const YAML::Node& node, const std::string& path, const Origin& at,
                 const FieldDescriptor* field, Message* message);

  const std::string& file_;
  const Origin* const fixed_;
  JobDraft* const draft_;
  int nodes_ = 0;
};

// An alias carries the place of its anchor, which stands before the key: then the key says better
// where the user must look.
Origin JobReader::Place(const YAML::Node& node, const Origin& key) const {
  if (fixed_ != nullptr) return *fixed_;
  if (node.IsNull()) return key;
  const Origin place = OriginOf(node, file_, key);
  const bool before =
      place.line < key.line || (place.line == key.line && place.column < key.column);
  return before ? key : place;
}

bool JobReader::Spent(const Origin& at) {
  if (++nodes_ <= kMaxYamlNodes) return false;
  if (nodes_ == kMaxYamlNodes + 1) {
    draft_->problems.Add(at, "", fmt::format("more than {} values, aliases counted", kMaxYamlNodes),
                         "write a smaller file, without aliases of aliases");
  }
  return true;
}

bool JobReader::IsTagged(const YAML::Node& node, const std::string& path, const Origin& at) {
  const std::string& tag = node.Tag();
  if (tag.empty() || tag == "?" || tag == "!" || tag.starts_with("tag:yaml.org,2002:")) {
    return false;
  }
  Wrongly(at, path,
          {fmt::format("has the tag {}, which means nothing here", Quoted(tag)), "delete the tag"});
  return true;
}

void JobReader::ReadMessage(const YAML::Node& node, const std::string& path, const Origin& at,
                            Message* message) {
  if (!node.IsMap()) {
    const std::vector<std::string> names = JobFieldNames(*message->GetDescriptor());
    Wrongly(at, path,
            {path.empty() ? fmt::format("a job file is a mapping, not {}", KindOf(node))
                          : fmt::format("wants a mapping, not {}", KindOf(node)),
             fmt::format("write fields of it: {}", fmt::join(names, ", "))});
    return;
  }
  // A file without `trainingInput:` may give that message's keys at the top.
  bool bare = path.empty();
  for (const auto& entry : node) {
    if (entry.first.IsScalar() && entry.first.Scalar() == "trainingInput") bare = false;
  }
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const Origin key_at = Place(entry.first, at);
    if (Spent(key_at)) return;
    if (!entry.first.IsScalar()) {
      Wrongly(key_at, path,
              {fmt::format("a key that is {}", KindOf(entry.first)),
               "write a field's name before the `:`"});
      continue;
    }
    if (!seen.insert(entry.first.Scalar()).second) continue;  // reported by ParseYaml
    ReadKey(entry.first, entry.second, path, bare, message);
  }
}

void JobReader::ReadKey(const YAML::Node& key_node, const YAML::Node& value,
                        const std::string& path, bool bare, Message* message) {
  const std::string& key = key_node.Scalar();
  const Origin at = Place(key_node, draft_->origins.root());
  if (const FieldDescriptor* field = FindJobField(*message->GetDescriptor(), key)) {
    ReadField(value, JoinPath(path, key), at, field, message);
    return;
  }
  const FieldDescriptor* inner = bare ? FindJobField(*TrainingInput::descriptor(), key) : nullptr;
  if (inner != nullptr) {
    ReadField(value, JoinPath("trainingInput", key), at, inner,
              static_cast<Job*>(message)->mutable_training_input());
    return;
  }
  UnknownKey(key, at, path, *message);
}

void JobReader::UnknownKey(const std::string& key, const Origin& at, const std::string& path,
                           const Message& message) {
  const std::string full = JoinPath(path, key);
  if (key == "<<") {
    Wrongly(at, full, {"merge keys are not supported", "write the fields out"});
  } else if (path.empty() && std::ranges::count(kServiceOutputs, key) > 0) {
    Wrongly(at, full, {"is written by the service, not a setting", "delete it"});
  } else if (const std::string home = HomeOfJobField(key); !home.empty() && home != path) {
    Wrongly(at, full, {"unknown here", fmt::format("it belongs in {}: move it there", home)});
  } else {
    Wrongly(at, full, {"unknown", WriteNearest(key, JobFieldNames(*message.GetDescriptor()))});
  }
}

void JobReader::ReadField(const YAML::Node& node, const std::string& path, const Origin& key_at,
                          const FieldDescriptor* field, Message* message) {
  const Origin at = Place(node, key_at);
  if (node.IsNull() || Spent(at) || IsTagged(node, path, at)) return;
  draft_->origins.Set(path, at);
  if (field->is_map()) {
    ReadMap(node, path, at, field, message);
  } else if (field->is_repeated()) {
    ReadList(node, path, at, field, message);
  } else {
    ReadValue(node, path, at, field, message);
  }
}

void JobReader::ReadList(const YAML::Node& node, const std::string& path, const Origin& at,
                         const FieldDescriptor* field, Message* message) {
  if (!node.IsSequence()) {
    Wrongly(at, path,
            {fmt::format("wants a list, not {}", KindOf(node)),
             node.IsScalar() ? fmt::format("write [{}]", node.Scalar().substr(0, 60))
                             : std::string("start each item with `- `")});
    return;
  }
  size_t i = 0;
  for (const YAML::Node& item : node) {
    const std::string item_path = IndexPath(path, i++);
    const Origin item_at = Place(item, at);
    if (Spent(item_at)) return;
    if (item.IsNull()) {
      Wrongly(item_at, item_path, {"an empty item", "delete it, or write \"\" for empty text"});
      continue;
    }
    if (IsTagged(item, item_path, item_at)) continue;
    draft_->origins.Set(item_path, item_at);
    ReadValue(item, item_path, item_at, field, message);
  }
}

void JobReader::ReadMap(const YAML::Node& node, const std::string& path, const Origin& at,
                        const FieldDescriptor* field, Message* message) {
  if (!node.IsMap()) {
    Wrongly(at, path,
            {fmt::format("wants a mapping, not {}", KindOf(node)),
             "write `name: value` lines below it"});
    return;
  }
  const FieldDescriptor* key_field = field->message_type()->map_key();
  const FieldDescriptor* value_field = field->message_type()->map_value();
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const Origin entry_at = Place(entry.first, at);
    if (Spent(entry_at)) return;
    if (!entry.first.IsScalar()) {
      Wrongly(
          entry_at, path,
          {fmt::format("a name that is {}", KindOf(entry.first)), "write a name before the `:`"});
      continue;
    }
    const std::string& name = entry.first.Scalar();
    if (!seen.insert(name).second) continue;
    const std::string entry_path = JoinPath(path, name);
    draft_->origins.Set(entry_path, Place(entry.second, entry_at));
    Message* pair = message->GetReflection()->AddMessage(message, field);
    Wrong wrong;
    StoreJobScalar(name, key_field, pair, &wrong);
    if (!entry.second.IsNull()) {
      ReadValue(entry.second, entry_path, Place(entry.second, entry_at), value_field, pair);
    }
  }
}

void JobReader::ReadValue(const YAML::Node& node, const std::string& path, const Origin& at,
                          const FieldDescriptor* field, Message* message) {
  const Reflection& reflection = *message->GetReflection();
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (is_message && !IsDuration(*field)) {
    Message* child = field->is_repeated() ? reflection.AddMessage(message, field)
                                          : reflection.MutableMessage(message, field);
    ReadMessage(node, path, at, child);
    return;
  }
  if (!node.IsScalar()) {
    Wrongly(at, path,
            {fmt::format("wants {}, not {}", WhatFieldWants(*field), KindOf(node)),
             node.IsMap() ? "put the text in quotes if the `: ` belongs to it"
                          : "write one value without `[` and `- `"});
    return;
  }
  Wrong wrong;
  if (!StoreJobScalar(node.Scalar(), field, message, &wrong)) Wrongly(at, path, wrong);
}

// Finds the message and field at `path`; reports a path that does not exist.
// For an entry of a map ("labels.team") it is the map's field, and `*key` the entry's name.
const FieldDescriptor* Locate(const std::string& path, const Origin& origin, JobDraft* draft,
                              Message** message, std::string* key) {
  *message = &draft->job;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string name = path.substr(begin, dot - begin);
    const FieldDescriptor* field = FindJobField(*(*message)->GetDescriptor(), name);
    if (field == nullptr) {
      draft->problems.Add(origin, "",
                          fmt::format("{} is not a field of the job file", Quoted(path)),
                          WriteNearest(name, JobFieldNames(*(*message)->GetDescriptor())));
      return nullptr;
    }
    if (dot == std::string::npos) return field;
    if (field->is_map()) {
      *key = path.substr(dot + 1);
      return field;
    }
    if (field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
        IsDuration(*field)) {
      draft->problems.Add(origin, "", fmt::format("{} has no fields", Quoted(path.substr(0, dot))),
                          fmt::format("write {}", path.substr(0, dot)));
      return nullptr;
    }
    *message = (*message)->GetReflection()->MutableMessage(*message, field);
    begin = dot + 1;
  }
}

void SetNode(const std::string& path, const YAML::Node& node, const Origin& origin,
             JobDraft* draft) {
  Message* message = nullptr;
  std::string key;
  const FieldDescriptor* field = Locate(path, origin, draft, &message, &key);
  if (field == nullptr) return;
  if (!key.empty()) {
    YAML::Node entry;
    entry[key] = node;
    JobReader(origin.name, &origin, draft)
        .ReadField(entry, path.substr(0, path.size() - key.size() - 1), origin, field, message);
    return;
  }
  message->GetReflection()->ClearField(message, field);
  draft->origins.Erase(path);
  JobReader(origin.name, &origin, draft).ReadField(node, path, origin, field, message);
}

}  // namespace

bool ReadJobYaml(std::string_view text, const std::string& name, JobDraft* draft) {
  const Origin start{name, 1, 1};
  draft->origins.set_root(start);
  CheckSecrets(text, name, &draft->problems);
  const std::optional<YAML::Node> document = ParseYaml(text, name, &draft->problems);
  if (!document) return false;
  JobReader(name, nullptr, draft).ReadMessage(*document, "", start, &draft->job);
  return document->IsMap();
}

bool ReadJobFile(const std::string& path, JobDraft* draft) {
  draft->origins.set_root({path, 1, 1});
  const auto fail = [&](int error, const char* write) {
    draft->problems.Add({path}, "", fmt::format("cannot be read: {}", std::strerror(error)), write);
    return false;
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(errno, "give the path of a job file after --config");
  std::string text;
  char buffer[65536];
  ssize_t n = 0;
  while (text.size() <= kMaxYamlBytes) {
    n = read(file, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  const int error = errno;
  close(file);
  if (n < 0) return fail(error, "give the path of a job file after --config");
  return ReadJobYaml(text, path, draft);
}

void SetJobField(const std::string& path, const std::string& text, const Origin& origin,
                 JobDraft* draft) {
  YAML::Node node;
  node = text;
  SetNode(path, node, origin, draft);
}

void SetJobFieldYaml(const std::string& path, const std::string& yaml, const Origin& origin,
                     JobDraft* draft) {
  Problems problems;
  const std::optional<YAML::Node> node = ParseYaml(yaml, origin.name, &problems);
  for (const Problem& problem : problems.Sorted()) {
    draft->problems.Add(origin, path, problem.what, problem.write);
  }
  if (node) SetNode(path, *node, origin, draft);
}

void SetJobList(const std::string& path, const std::vector<std::string>& items,
                const std::vector<Origin>& origins, JobDraft* draft) {
  YAML::Node node(YAML::NodeType::Sequence);
  for (const std::string& item : items) node.push_back(item);
  const Origin origin = origins.empty() ? draft->origins.root() : origins[0];
  SetNode(path, node, origin, draft);
  for (size_t i = 0; i < origins.size(); ++i) {
    draft->origins.Set(IndexPath(path, i), origins[i]);
  }
}

}  // namespace muster
