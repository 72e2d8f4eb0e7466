#include "configs/job_fields.h"

#include <fmt/format.h>
#include <google/protobuf/duration.pb.h>

#include <limits>

#include "configs/job.pb.h"
#include "configs/nearest.h"
#include "configs/origin.h"

namespace muster {

using google::protobuf::Descriptor;
using google::protobuf::Duration;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

namespace {

// True when `value` is a message of ours, with fields to go down into.
bool IsBranch(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_map() &&
         !IsDuration(field);
}

bool StoreEnum(const std::string& text, const FieldDescriptor* field, Message* message,
               Wrong* wrong) {
  const EnumDescriptor& type = *field->enum_type();
  const EnumValueDescriptor* value = type.FindValueByName(text);
  if (value == nullptr) {
    *wrong = {fmt::format("{} is not one of {}", Quoted(text), fmt::join(EnumNames(type), ", ")),
              WriteNearest(text, EnumNames(type))};
    if (wrong->write.starts_with("write one of")) wrong->write = "write one of these";
    return false;
  }
  const Reflection& reflection = *message->GetReflection();
  field->is_repeated() ? reflection.AddEnum(message, field, value)
                       : reflection.SetEnum(message, field, value);
  return true;
}

bool StoreDuration(const std::string& text, const FieldDescriptor* field, Message* message,
                   Wrong* wrong) {
  const std::optional<Seconds> value = ParseDuration(text, wrong);
  if (!value) return false;
  auto* duration = static_cast<Duration*>(message->GetReflection()->MutableMessage(message, field));
  duration->set_seconds(value->seconds);
  duration->set_nanos(value->nanos);
  return true;
}

bool StoreText(const std::string& text, const FieldDescriptor* field, Message* message,
               Wrong* wrong) {
  if (text.find('\0') != std::string::npos) {
    *wrong = {"holds a NUL character", "delete it"};
    return false;
  }
  const Reflection& reflection = *message->GetReflection();
  field->is_repeated() ? reflection.AddString(message, field, text)
                       : reflection.SetString(message, field, text);
  return true;
}

template <typename T, typename Set, typename Add>
bool Store(const std::optional<T>& value, const FieldDescriptor* field, Message* message, Set set,
           Add add) {
  if (!value) return false;
  const Reflection& reflection = *message->GetReflection();
  field->is_repeated() ? (reflection.*add)(message, field, *value)
                       : (reflection.*set)(message, field, *value);
  return true;
}

bool IsZero(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field) == 0;
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field) == 0;
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field) == 0;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field) == 0;
    case FieldDescriptor::CPPTYPE_BOOL:
      return !reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.GetEnumValue(message, &field) == 0;
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field).empty();
    default:
      return !reflection.HasField(message, &field);
  }
}

std::string FindHome(const Descriptor& message, const std::string& path, const std::string& name) {
  for (int i = 0; i < message.field_count(); ++i) {
    if (!IsBranch(*message.field(i))) continue;
    const std::string child = JoinPath(path, message.field(i)->json_name());
    if (FindJobField(*message.field(i)->message_type(), name) != nullptr) return child;
  }
  for (int i = 0; i < message.field_count(); ++i) {
    if (!IsBranch(*message.field(i))) continue;
    const std::string child = JoinPath(path, message.field(i)->json_name());
    if (std::string home = FindHome(*message.field(i)->message_type(), child, name);
        !home.empty()) {
      return home;
    }
  }
  return "";
}

}  // namespace

const FieldDescriptor* FindJobField(const Descriptor& message, const std::string& name) {
  return message.FindFieldByCamelcaseName(name);
}

std::vector<std::string> JobFieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->json_name());
  return names;
}

std::string HomeOfJobField(const std::string& name) {
  if (FindJobField(*Job::descriptor(), name) != nullptr) return "";
  return FindHome(*Job::descriptor(), "", name);
}

bool IsDuration(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
         field.message_type() == Duration::descriptor();
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (!type.value(i)->name().ends_with("_UNSPECIFIED")) names.push_back(type.value(i)->name());
  }
  return names;
}

std::string WhatFieldWants(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_ENUM:
      return fmt::format("one of {}", fmt::join(EnumNames(*field.enum_type()), ", "));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return IsDuration(field) ? "a duration such as 7200s" : "a mapping";
    default:
      return "an integer";
  }
}

bool StoreJobScalar(const std::string& text, const FieldDescriptor* field, Message* message,
                    Wrong* wrong) {
  using I32 = std::numeric_limits<int32_t>;
  using I64 = std::numeric_limits<int64_t>;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return StoreText(text, field, message, wrong);
    case FieldDescriptor::CPPTYPE_ENUM:
      return StoreEnum(text, field, message, wrong);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return StoreDuration(text, field, message, wrong);
    case FieldDescriptor::CPPTYPE_BOOL:
      return Store(ParseBool(text, wrong), field, message, &Reflection::SetBool,
                   &Reflection::AddBool);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Store(ParseDouble(text, wrong), field, message, &Reflection::SetDouble,
                   &Reflection::AddDouble);
    case FieldDescriptor::CPPTYPE_UINT64:
      return Store(ParseUint(text, wrong), field, message, &Reflection::SetUInt64,
                   &Reflection::AddUInt64);
    case FieldDescriptor::CPPTYPE_INT32:
      return Store(ParseInt(text, I32::min(), I32::max(), wrong), field, message,
                   &Reflection::SetInt32, &Reflection::AddInt32);
    default:
      return Store(ParseInt(text, I64::min(), I64::max(), wrong), field, message,
                   &Reflection::SetInt64, &Reflection::AddInt64);
  }
}

bool IsSet(const Message& job, const std::string& path) {
  const Message* message = &job;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const FieldDescriptor* field =
        FindJobField(*message->GetDescriptor(), path.substr(begin, dot - begin));
    if (field == nullptr) return false;
    const Reflection& reflection = *message->GetReflection();
    if (field->is_repeated()) return reflection.FieldSize(*message, field) > 0;
    if (dot == std::string::npos) return !IsZero(*message, *field);
    if (!IsBranch(*field) || !reflection.HasField(*message, field)) return false;
    message = &reflection.GetMessage(*message, field);
    begin = dot + 1;
  }
}

std::vector<std::string> LeafPaths(const Descriptor& message, const std::string& prefix) {
  std::vector<std::string> paths;
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const std::string path = JoinPath(prefix, field.json_name());
    if (IsBranch(field)) {
      for (std::string& leaf : LeafPaths(*field.message_type(), path)) {
        paths.push_back(std::move(leaf));
      }
    } else {
      paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace muster
