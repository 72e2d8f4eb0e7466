#include <fmt/format.h>
#include <google/protobuf/duration.pb.h>

#include <algorithm>

#include "configs/job_fields.h"
#include "configs/job_yaml.h"

namespace muster {
namespace {

using google::protobuf::Duration;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsWord(const std::string& text) {
  if (text.empty() || text.size() > 200) return false;
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!letter(text[0])) return false;
  for (const char c : text) {
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '_' && c != '.' && c != '-' && c != '/') {
      return false;
    }
  }
  Wrong unused;
  return text != "null" && text != "Null" && text != "NULL" && !ParseBool(text, &unused);
}

// Words as they are, anything else between double quotes.
std::string Text(const std::string& text) {
  if (IsWord(text)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += fmt::format("\\{}", c);
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// Value of a scalar, an enum or a Duration; item `index` of a repeated one, or -1.
std::string Value(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection& r = *message.GetReflection();
  const bool item = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return Text(item ? r.GetRepeatedString(message, field, index) : r.GetString(message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return fmt::format(
          "{}", item ? r.GetRepeatedBool(message, field, index) : r.GetBool(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return fmt::format(
          "{}", item ? r.GetRepeatedDouble(message, field, index) : r.GetDouble(message, field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return (item ? r.GetRepeatedEnum(message, field, index) : r.GetEnum(message, field))->name();
    case FieldDescriptor::CPPTYPE_INT32:
      return fmt::format(
          "{}", item ? r.GetRepeatedInt32(message, field, index) : r.GetInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return fmt::format(
          "{}", item ? r.GetRepeatedUInt64(message, field, index) : r.GetUInt64(message, field));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const auto& duration = static_cast<const Duration&>(r.GetMessage(message, field));
      return FormatDuration({duration.seconds(), duration.nanos()});
    }
    default:
      return fmt::format(
          "{}", item ? r.GetRepeatedInt64(message, field, index) : r.GetInt64(message, field));
  }
}

bool IsScalar(const FieldDescriptor& field) {
  return field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || IsDuration(field);
}

// Lines of `message`, each indented by `indent`. `complete`: scalars that hold their default value
// too.
std::string Lines(const Message& message, const std::string& indent, bool complete);

std::string MapLines(const Message& message, const FieldDescriptor* field,
                     const std::string& indent) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<std::string> lines;
  for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
    const Message& pair = reflection.GetRepeatedMessage(message, field, i);
    lines.push_back(fmt::format("{}{}: {}\n", indent,
                                Value(pair, field->message_type()->map_key(), -1),
                                Value(pair, field->message_type()->map_value(), -1)));
  }
  std::sort(lines.begin(), lines.end());  // a protobuf map has no order
  return fmt::format("{}", fmt::join(lines, ""));
}

std::string ListLines(const Message& message, const FieldDescriptor* field,
                      const std::string& indent, bool complete) {
  const Reflection& reflection = *message.GetReflection();
  std::string text;
  for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
    if (IsScalar(*field)) {
      text += fmt::format("{}- {}\n", indent, Value(message, field, i));
      continue;
    }
    std::string item =
        Lines(reflection.GetRepeatedMessage(message, field, i), indent + "  ", complete);
    if (item.empty()) item = indent + "  {}\n";
    item[indent.size()] = '-';
    text += item;
  }
  return text;
}

std::string Lines(const Message& message, const std::string& indent, bool complete) {
  const Reflection& reflection = *message.GetReflection();
  std::string text;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string& name = field->json_name();
    if (field->is_repeated()) {
      if (reflection.FieldSize(message, field) == 0) continue;
      text += fmt::format("{}{}:\n", indent, name);
      text += field->is_map() ? MapLines(message, field, indent + "  ")
                              : ListLines(message, field, indent + "  ", complete);
    } else if (IsScalar(*field)) {
      const bool shown =
          reflection.HasField(message, field) || (complete && !field->has_presence());
      if (shown) text += fmt::format("{}{}: {}\n", indent, name, Value(message, field, -1));
    } else if (reflection.HasField(message, field)) {
      const bool ours = complete || name == "training" || name == "cluster";
      const std::string inner = Lines(reflection.GetMessage(message, field), indent + "  ", ours);
      text += inner.empty() ? fmt::format("{}{}: {{}}\n", indent, name)
                            : fmt::format("{}{}:\n{}", indent, name, inner);
    }
  }
  return text;
}

}  // namespace

std::string WriteJobYaml(const Job& job) { return Lines(job, "", false); }

}  // namespace muster
