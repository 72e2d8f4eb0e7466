// YamlDocument: text -> one YAML tree that is safe to walk, or what is wrong with it. Includes
// yaml-cpp: for .cc files of this folder only.
//
// Refused: more than 1 MiB, text that is not UTF-8, NUL, wrong syntax, more than one document,
// nesting deeper than 500 (yaml-cpp's own guard). Keys that are repeated are reported wherever they
// stand. Pure functions: thread-safe.
#pragma once

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <string_view>

#include "configs/origin.h"

namespace muster {

constexpr size_t kMaxYamlBytes = 1 << 20;

// A tree is walked through its aliases, so a small file can stand for a huge tree: walks stop after
// this many nodes.
constexpr int kMaxYamlNodes = 100'000;

// The only document in `text`. Empty when it cannot be walked; then `problems` has grown. `name` is
// the file's name in messages.
std::optional<YAML::Node> ParseYaml(std::string_view text, const std::string& name,
                                    Problems* problems);

// Place of a node in file `name`; `otherwise` where yaml-cpp knows none.
Origin OriginOf(const YAML::Node& node, const std::string& name, const Origin& otherwise);

// "a mapping", "a list", "text", "nothing".
const char* KindOf(const YAML::Node& node);

}  // namespace muster
