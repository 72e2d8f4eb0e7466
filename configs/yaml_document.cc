#include "configs/yaml_document.h"

#include <fmt/format.h>

#include <map>
#include <vector>

#include "configs/scalar.h"

namespace muster {
namespace {

// Offset of the first byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong
// forms, at most U+10FFFF), or npos.
size_t FirstInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80                    ? 0
                     : lead >= 0xC2 && lead <= 0xDF ? 1
                     : lead >= 0xE0 && lead <= 0xEF ? 2
                     : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                    : -1;
    if (more < 0 || i + more >= text.size() + (more == 0 ? 1 : 0)) return i;
    for (int k = 1; k <= more; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      const unsigned low = k > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const unsigned high = k > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (byte < low || byte > high) return i;
    }
    i += more + 1;
  }
  return std::string_view::npos;
}

Origin PlaceOf(std::string_view text, size_t offset, const std::string& name) {
  Origin place{name, 1, 1};
  for (const char c : text.substr(0, offset)) {
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      ++place.column;
    }
  }
  return place;
}

// yaml-cpp's messages, made helpful where a beginner meets them.
std::string WhatToWrite(const std::string& message) {
  if (message.find("tab") != std::string::npos) return "indent with spaces";
  if (message.find("end of map") != std::string::npos) {
    return "look for a line above it that is indented differently, or a missing `:`";
  }
  if (message.find("end of sequence") != std::string::npos) {
    return "look for a line above it that is indented differently";
  }
  if (message.find("illegal map value") != std::string::npos) {
    return "put text that holds `: ` in quotes, and one key on a line";
  }
  if (message.find("anchor") != std::string::npos) {
    return "define &name before *name, or put text that starts with * or & in quotes";
  }
  return "correct the YAML";
}

// Reports keys that stand twice in one mapping. Aliases are followed, so both the nodes and the
// depth are bounded.
class RepeatedKeys {
 public:
  RepeatedKeys(const std::string& name, Problems* problems) : name_(name), problems_(problems) {}

  void Visit(const YAML::Node& node, const std::string& path, int depth) {
    if (++nodes_ > kMaxYamlNodes || depth > kMaxDepth) return;
    if (node.IsSequence()) {
      size_t i = 0;
      for (const YAML::Node& item : node) Visit(item, IndexPath(path, i++), depth + 1);
    } else if (node.IsMap()) {
      VisitMap(node, path, depth);
    }
  }

 private:
  static constexpr int kMaxDepth = 500;

  void VisitMap(const YAML::Node& node, const std::string& path, int depth) {
    std::map<std::string, Origin> first;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) continue;
      const std::string& key = entry.first.Scalar();
      const Origin here = OriginOf(entry.first, name_, Origin{name_, 1, 1});
      const auto [it, is_first] = first.emplace(key, here);
      if (!is_first) {
        problems_->Add(here, JoinPath(path, key),
                       fmt::format("repeated: the first one is on line {}", it->second.line),
                       "keep one of them");
      }
      Visit(entry.second, JoinPath(path, key), depth + 1);
    }
  }

  const std::string& name_;
  Problems* problems_;
  int nodes_ = 0;
};

std::vector<YAML::Node> Load(std::string_view text, const std::string& name, Problems* problems) {
  try {
    return YAML::LoadAll(std::string(text));
  } catch (const YAML::Exception& e) {
    const Origin origin =
        e.mark.is_null() ? Origin{name, 1, 1} : Origin{name, e.mark.line + 1, e.mark.column + 1};
    const bool deep = dynamic_cast<const YAML::DeepRecursion*>(&e) != nullptr;
    problems->Add(
        origin, "",
        deep ? "nested too deeply: more than 500 levels" : fmt::format("not valid YAML: {}", e.msg),
        deep ? "a job file needs fewer than ten" : WhatToWrite(e.msg));
  } catch (const std::exception& e) {
    problems->Add({name, 1, 1}, "", fmt::format("not valid YAML: {}", e.what()),
                  "correct the YAML");
  }
  return {};
}

}  // namespace

std::optional<YAML::Node> ParseYaml(std::string_view text, const std::string& name,
                                    Problems* problems) {
  const Origin start{name, 1, 1};
  if (text.size() > kMaxYamlBytes) {
    problems->Add(start, "", fmt::format("larger than {} bytes", kMaxYamlBytes),
                  "a job file is a few kilobytes: is this the right file?");
    return std::nullopt;
  }
  if (const size_t bad = FirstInvalidUtf8(text); bad != std::string_view::npos) {
    problems->Add(PlaceOf(text, bad, name), "", "not UTF-8 text", "save the file as UTF-8");
    return std::nullopt;
  }
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    problems->Add(PlaceOf(text, nul, name), "", "a NUL byte", "is this the right file?");
    return std::nullopt;
  }
  const size_t problems_before = problems->size();
  const std::vector<YAML::Node> documents = Load(text, name, problems);
  if (problems->size() > problems_before) return std::nullopt;
  if (documents.empty() || (documents.size() == 1 && documents[0].IsNull())) {
    problems->Add(start, "", "the file is empty",
                  "write at least trainingInput: {scaleTier: BASIC}");
    return std::nullopt;
  }
  if (documents.size() > 1) {
    problems->Add(OriginOf(documents[1], name, start), "",
                  fmt::format("{} YAML documents in one file", documents.size()),
                  "keep one job per file: delete what follows the second `---`");
    return std::nullopt;
  }
  RepeatedKeys(name, problems).Visit(documents[0], "", 0);
  return documents[0];
}

Origin OriginOf(const YAML::Node& node, const std::string& name, const Origin& otherwise) {
  const YAML::Mark mark = node.Mark();
  return mark.is_null() ? otherwise : Origin{name, mark.line + 1, mark.column + 1};
}

const char* KindOf(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return "text";
    default:
      return "nothing";
  }
}

}  // namespace muster
