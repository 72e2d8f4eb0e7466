#include "configs/secrets.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace muster {
namespace {

using Alphabet = bool (*)(unsigned char);

bool IsUpperAlnum(unsigned char c) { return std::isupper(c) || std::isdigit(c); }
bool IsAlnum(unsigned char c) { return std::isalnum(c); }
bool IsUrlSafe(unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; }
bool IsBase64(unsigned char c) { return std::isalnum(c) || c == '+' || c == '/'; }

// A prefix that nobody writes by accident, and so many characters at least behind it.
struct Shape {
  std::string_view prefix;
  size_t length;
  Alphabet alphabet;
  std::string_view what;
};
constexpr std::array<Shape, 14> kShapes = {{
    {"AKIA", 16, IsUpperAlnum, "an access key of AWS"},
    {"ASIA", 16, IsUpperAlnum, "an access key of AWS"},
    {"AIza", 35, IsUrlSafe, "an API key of Google"},
    {"ya29.", 20, IsUrlSafe, "an access token of Google"},
    {"ghp_", 36, IsAlnum, "a token of GitHub"},
    {"gho_", 36, IsAlnum, "a token of GitHub"},
    {"ghs_", 36, IsAlnum, "a token of GitHub"},
    {"ghu_", 36, IsAlnum, "a token of GitHub"},
    {"github_pat_", 22, IsUrlSafe, "a token of GitHub"},
    {"hf_", 34, IsAlnum, "a token of Hugging Face"},
    {"xoxb-", 20, IsUrlSafe, "a token of Slack"},
    {"xoxp-", 20, IsUrlSafe, "a token of Slack"},
    {"sk-ant-", 20, IsUrlSafe, "an API key"},
    {"sk-proj-", 20, IsUrlSafe, "an API key"},
}};

size_t Run(std::string_view text, size_t begin, Alphabet alphabet) {
  size_t end = begin;
  while (end < text.size() && alphabet(static_cast<unsigned char>(text[end]))) ++end;
  return end - begin;
}

bool BeginsWord(std::string_view text, size_t at) {
  return at == 0 || !IsUrlSafe(static_cast<unsigned char>(text[at - 1]));
}

// "-----BEGIN RSA PRIVATE KEY-----"
bool IsPrivateKey(std::string_view text, size_t at) {
  const std::string_view line =
      text.substr(at, std::min<size_t>(text.find('\n', at), at + 80) - at);
  return line.starts_with("-----BEGIN ") && line.find("PRIVATE KEY-----") != line.npos;
}

// "aws_secret_access_key: " and forty characters of base64.
bool IsSecretAccessKey(std::string_view text, size_t at) {
  constexpr std::array<std::string_view, 3> kNames = {"secret_access_key", "SECRET_ACCESS_KEY",
                                                      "secretAccessKey"};
  for (const std::string_view name : kNames) {
    if (!text.substr(at).starts_with(name)) continue;
    size_t value = at + name.size();
    while (value < text.size() && std::string_view(" \t:=\"'").find(text[value]) != text.npos) {
      ++value;
    }
    return Run(text, value, IsBase64) == 40;
  }
  return false;
}

}  // namespace

std::optional<Secret> FindSecret(std::string_view text, size_t from) {
  for (size_t at = from; at < text.size(); ++at) {
    if (IsPrivateKey(text, at)) return Secret{at, "a private key"};
    if (IsSecretAccessKey(text, at)) return Secret{at, "a secret access key of AWS"};
    for (const Shape& shape : kShapes) {
      if (text.substr(at).starts_with(shape.prefix) && BeginsWord(text, at) &&
          Run(text, at + shape.prefix.size(), shape.alphabet) >= shape.length) {
        return Secret{at, shape.what};
      }
    }
  }
  return std::nullopt;
}

void CheckSecrets(std::string_view text, const std::string& name, Problems* problems) {
  for (size_t from = 0;;) {
    const std::optional<Secret> secret = FindSecret(text, from);
    if (!secret) return;
    const std::string_view before = text.substr(0, secret->begin);
    const auto line = 1 + static_cast<int>(std::ranges::count(before, '\n'));
    const size_t begin = before.rfind('\n') + 1;  // npos + 1 is 0
    problems->Add({name, line, static_cast<int>(secret->begin - begin) + 1}, "",
                  fmt::format("looks like {}", secret->what), kSecretAdvice);
    from = text.find('\n', secret->begin);
    if (from == text.npos) return;
  }
}

}  // namespace muster
