// Fields: reads the fields of one JSON object into plain variables, for the few files of this
// folder that speak JSON. Include it from .cc files only: it brings nlohmann::json along.
//
// Owned by one thread. Absent fields leave their variable as it was; the first field of a wrong
// type is kept in status(), and everything after it is left alone. Nothing throws.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster::master {

using Json = nlohmann::ordered_json;

// `text` as a JSON object. Fails with InvalidArgument when it is not one (cut short, empty …).
absl::StatusOr<Json> ParseJsonObject(std::string_view text);

// On one line, or indented for people. Bytes that are not UTF-8 are replaced; NaN and infinities
// become null.
std::string DumpJson(const Json& json);
std::string DumpJsonForPeople(const Json& json);

class Fields {
 public:
  // `where` starts the names in messages: "replicas[3]." or "".
  explicit Fields(const Json& object, std::string where = "");

  void Read(const char* name, std::string* out);
  void Read(const char* name, bool* out);
  void Read(const char* name, int* out);
  void Read(const char* name, int64_t* out);
  void Read(const char* name, uint64_t* out);
  void Read(const char* name, double* out);                 // null is NaN
  void Read(const char* name, std::optional<double>* out);  // null is absent
  void Read(const char* name, std::vector<int64_t>* out);
  void Read(const char* name, std::vector<int32_t>* out);
  void Read(const char* name, std::vector<std::string>* out);
  void Read(const char* name, std::map<std::string, double>* out);
  void Read(const char* name, std::map<std::string, std::string>* out);
  // A time of telemetry/time.h; null or absent leaves 0.
  void ReadTime(const char* name, int64_t* out_ms);
  // The required "schemaVersion". Returns FailedPrecondition when it is above `newest`: a newer
  // Muster wrote the object, whose fields may mean something else.
  absl::Status ReadSchemaVersion(int newest);
  // The object or the array of objects `name`, or null when absent.
  const Json* Object(const char* name);
  const Json* Objects(const char* name);

  // Fails unless `name` is there; for fields without which the rest means nothing.
  void Require(const char* name);
  // Adds a failure of the caller's own about `name`.
  void Fail(const char* name, std::string_view expected);
  // Takes over a failure of a nested object.
  void Merge(const absl::Status& status);

  const absl::Status& status() const { return status_; }
  std::string path(const char* name) const { return where_ + name; }

 private:
  // The value `name`, or null when it is absent, JSON's null, or an earlier field has failed.
  const Json* Find(const char* name);
  template <typename T>
  void ReadInteger(const char* name, T* out);
  template <typename T>
  void ReadIntegers(const char* name, std::vector<T>* out);

  const Json& object_;
  const std::string where_;
  absl::Status status_;
};

}  // namespace muster::master
