#include "configs/yaml_document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>

#include <map>
#include <sstream>
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

// True when line `number` (from 0) or the one above it is indented with a tab.
bool TabIndented(std::string_view text, int number) {
  int line = 0;
  bool indentation = true;
  for (const char c : text) {
    if (line > number) return false;
    if (c == '\t' && indentation && line + 1 >= number) return true;
    indentation = c == '\n' || (indentation && c == ' ');
    if (c == '\n') ++line;
  }
  return false;
}

// yaml-cpp's messages, made helpful where a beginner meets them.
std::string WhatToWrite(const std::string& message, bool tab) {
  const auto says = [&](const char* part) { return message.find(part) != std::string::npos; };
  if (tab || says("tab")) return "indent with spaces, not with tabs";
  if (says("EOF in scalar")) return "look above for a quote that is not closed";
  if (says("flow not found")) return "look above for a `{` or `[` that is not closed";
  if (says("end of map") || says("end of sequence") || says("illegal map value")) {
    return "look here and on the line above for a missing `:`, another indentation, or text with "
           "`: ` in it that needs quotes";
  }
  if (says("anchor")) {
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

void AddSyntaxError(const YAML::Exception& e, std::string_view text, const std::string& name,
                    Problems* problems) {
  const Origin origin =
      e.mark.is_null() ? Origin{name, 1, 1} : Origin{name, e.mark.line + 1, e.mark.column + 1};
  if (dynamic_cast<const YAML::DeepRecursion*>(&e) != nullptr) {
    problems->Add(origin, "", "nested too deeply: more than 500 levels",
                  "a job file needs fewer than ten");
    return;
  }
  problems->Add(origin, "", fmt::format("not valid YAML: {}", e.msg),
                WhatToWrite(e.msg, TabIndented(text, e.mark.line)));
}

// Remembers where documents start, and the first text that is none: yaml-cpp makes lone bytes of
// the escapes \N and \_.
class Documents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { starts.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string& text) override {
    if (!no_text && FirstInvalidUtf8(text) != std::string::npos) no_text = mark;
  }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  std::vector<YAML::Mark> starts;
  std::optional<YAML::Mark> no_text;
};

// The first two documents of `text`. Not YAML::LoadAll, which never returns where a
// document starts with a stray `,` or `}`: yaml-cpp then makes empty documents for ever.
Documents FirstDocuments(std::string_view text) {
  // A quote that is never closed is an error to yaml-cpp only when no line break ends the text.
  const size_t end = text.find_last_not_of("\r\n \t");
  std::istringstream stream(std::string(text.substr(0, end + 1)));
  YAML::Parser parser(stream);
  Documents documents;
  while (documents.starts.size() < 2 && parser.HandleNextDocument(documents)) {
  }
  return documents;
}

// The only document, or null with `problems` grown.
std::optional<YAML::Node> Load(std::string_view text, const std::string& name, Problems* problems) {
  try {
    const Documents documents = FirstDocuments(text);
    if (documents.no_text) {
      problems->Add({name, documents.no_text->line + 1, documents.no_text->column + 1}, "",
                    "an escape such as \\N or \\_ that makes no text",
                    "write the character itself");
      return std::nullopt;
    }
    if (const auto& starts = documents.starts; starts.size() > 1) {
      problems->Add({name, starts[1].line + 1, starts[1].column + 1}, "",
                    "a second YAML document starts here",
                    "keep one job per file, and look above for a `}` or `]` too many");
      return std::nullopt;
    }
    return YAML::Load(std::string(text));
  } catch (const YAML::Exception& e) {
    AddSyntaxError(e, text, name, problems);
  } catch (const std::exception& e) {
    problems->Add({name, 1, 1}, "", fmt::format("not valid YAML: {}", e.what()),
                  "correct the YAML");
  }
  return std::nullopt;
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
  const std::optional<YAML::Node> document = Load(text, name, problems);
  if (!document) return std::nullopt;
  if (document->IsNull()) {
    problems->Add(start, "", "the file is empty",
                  "write at least trainingInput: {scaleTier: BASIC}");
    return std::nullopt;
  }
  RepeatedKeys(name, problems).Visit(*document, "", 0);
  return document;
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
