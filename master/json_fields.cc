#include "master/json_fields.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "telemetry/time.h"

namespace muster::master {
namespace {

template <typename T>
bool Fits(const Json& value) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max());
  }
  const int64_t n = value.get<int64_t>();
  if constexpr (std::is_unsigned_v<T>) {
    return n >= 0;
  } else {
    return n >= std::numeric_limits<T>::min() && n <= std::numeric_limits<T>::max();
  }
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(text.empty() ? "the text is empty"
                                                   : "the text is not a whole JSON object");
  }
  return json;
}

std::string DumpJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string DumpJsonForPeople(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

const Json* Fields::Find(const char* name) {
  if (!status_.ok()) return nullptr;
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::Fail(const char* name, std::string_view expected) {
  if (!status_.ok()) return;
  const auto it = object_.find(name);
  status_ = absl::InvalidArgumentError(it == object_.end()
                                           ? fmt::format("{}{} is missing", where_, name)
                                           : fmt::format("{}{} is {}; it must be {}", where_, name,
                                                         DumpJson(*it).substr(0, 80), expected));
}

void Fields::Merge(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

void Fields::Require(const char* name) {
  if (object_.find(name) == object_.end()) Fail(name, "");
}

void Fields::Read(const char* name, std::string* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_string()) return Fail(name, "a text");
  *out = value->get<std::string>();
}

void Fields::Read(const char* name, bool* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Fail(name, "true or false");
  *out = value->get<bool>();
}

template <typename T>
void Fields::ReadInteger(const char* name, T* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!Fits<T>(*value)) return Fail(name, "a whole number");
  *out = value->get<T>();
}

void Fields::Read(const char* name, int* out) { ReadInteger(name, out); }
void Fields::Read(const char* name, int64_t* out) { ReadInteger(name, out); }
void Fields::Read(const char* name, uint64_t* out) { ReadInteger(name, out); }

void Fields::Read(const char* name, double* out) {
  const auto it = object_.find(name);
  if (it != object_.end() && it->is_null()) {
    *out = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Fail(name, "a number");
  *out = value->get<double>();
}

void Fields::Read(const char* name, std::optional<double>* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_number()) return Fail(name, "a number");
  *out = value->get<double>();
}

template <typename T>
void Fields::ReadIntegers(const char* name, std::vector<T>* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Fail(name, "a list of whole numbers");
  std::vector<T> numbers;
  for (const Json& item : *value) {
    if (!Fits<T>(item)) return Fail(name, "a list of whole numbers");
    numbers.push_back(item.get<T>());
  }
  *out = std::move(numbers);
}

void Fields::Read(const char* name, std::vector<int64_t>* out) { ReadIntegers(name, out); }
void Fields::Read(const char* name, std::vector<int32_t>* out) { ReadIntegers(name, out); }

void Fields::Read(const char* name, std::vector<std::string>* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_array()) return Fail(name, "a list of texts");
  std::vector<std::string> texts;
  for (const Json& item : *value) {
    if (!item.is_string()) return Fail(name, "a list of texts");
    texts.push_back(item.get<std::string>());
  }
  *out = std::move(texts);
}

void Fields::Read(const char* name, std::map<std::string, double>* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_object()) return Fail(name, "an object of numbers");
  std::map<std::string, double> numbers;
  for (const auto& [key, item] : value->items()) {
    if (!item.is_number() && !item.is_null()) return Fail(name, "an object of numbers");
    numbers[key] =
        item.is_null() ? std::numeric_limits<double>::quiet_NaN() : item.template get<double>();
  }
  *out = std::move(numbers);
}

void Fields::Read(const char* name, std::map<std::string, std::string>* out) {
  const Json* value = Find(name);
  if (value == nullptr) return;
  if (!value->is_object()) return Fail(name, "an object of texts");
  std::map<std::string, std::string> texts;
  for (const auto& [key, item] : value->items()) {
    if (!item.is_string()) return Fail(name, "an object of texts");
    texts[key] = item.template get<std::string>();
  }
  *out = std::move(texts);
}

void Fields::ReadTime(const char* name, int64_t* out_ms) {
  std::string text;
  Read(name, &text);
  if (text.empty() || !status_.ok()) return;
  const absl::StatusOr<int64_t> time = ParseTime(text);
  if (!time.ok()) return Fail(name, "a time such as 2026-11-21T06:30:00.123Z");
  *out_ms = *time;
}

absl::Status Fields::ReadSchemaVersion(int newest) {
  int version = 0;
  Require("schemaVersion");
  Read("schemaVersion", &version);
  if (version <= newest) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "schemaVersion is {}, written by a newer Muster; this one reads up to {}", version, newest));
}

const Json* Fields::Object(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  Fail(name, "an object");
  return nullptr;
}

const Json* Fields::Objects(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return nullptr;
  bool objects = value->is_array();
  if (objects) {
    for (const Json& item : *value) objects = objects && item.is_object();
  }
  if (objects) return value;
  Fail(name, "a list of objects");
  return nullptr;
}

}  // namespace muster::master
