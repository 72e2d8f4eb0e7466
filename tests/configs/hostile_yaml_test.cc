// Job files that are made to hurt, and random damage: an answer always comes, and it is never a
// crash.
#include <gmock/gmock.h>

#include <filesystem>
#include <random>

#include "configs/catalog.h"
#include "configs/job_yaml.h"
#include "configs/rules.h"
#include "tests/harness/golden.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ProblemsOf(const std::string& text) {
  JobDraft draft;
  ReadJobYaml(text, "f.yaml", &draft);
  return draft.problems.Text();
}

std::string Repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

TEST(HostileYaml, BytesThatAreNotUtf8) {
  EXPECT_EQ(ProblemsOf("labels:\n  a: \xff\n"),
            "f.yaml:2:6: not UTF-8 text; save the file as UTF-8\n");
  // A surrogate, an overlong form, a number above U+10FFFF, a character cut by the end of the file.
  for (const char* bad :
       {"\xed\xa0\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    EXPECT_THAT(ProblemsOf(std::string("jobId: ") + bad), StartsWith("f.yaml:1:8: not UTF-8"));
  }
  EXPECT_EQ(ProblemsOf("labels: {a: \"\xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf\"}\n"), "");
}

TEST(HostileYaml, Utf16) {
  using namespace std::string_literals;
  EXPECT_THAT(ProblemsOf("\xff\xfe"
                         "j\0o\0b\0"s),
              StartsWith("f.yaml:1:1: not UTF-8"));
}

TEST(HostileYaml, NulBytes) {
  using namespace std::string_literals;
  EXPECT_EQ(ProblemsOf("jobId: a\0b\n"s), "f.yaml:1:9: a NUL byte; is this the right file?\n");
  EXPECT_EQ(ProblemsOf("jobId: \"a\\0b\"\n"),
            "f.yaml:1:8: jobId: holds a NUL character; delete it\n");
}

TEST(HostileYaml, TooLarge) {
  EXPECT_EQ(ProblemsOf(Repeat("# a comment of thirty-two bytes\n", 40000)),
            "f.yaml:1:1: larger than 1048576 bytes; a job file is a few kilobytes: is this the "
            "right file?\n");
}

TEST(HostileYaml, DeepNesting) {
  EXPECT_THAT(ProblemsOf("jobId: " + Repeat("[", 100000)), HasSubstr("nested too deeply"));
  EXPECT_THAT(ProblemsOf(Repeat("{a: ", 100000) + "b"), HasSubstr("nested too deeply"));
  EXPECT_THAT(ProblemsOf(Repeat("- ", 100000)), HasSubstr("nested too deeply"));
}

TEST(HostileYaml, AliasesOfAliases) {
  std::string text = "labels:\n  x: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string previous = "*a" + std::to_string(i - 1) + ",";
    text += "  x" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + Repeat(previous, 10) +
            "]\n";
  }
  EXPECT_THAT(ProblemsOf(text), HasSubstr("labels.x: wants text, not a list"));
}

TEST(HostileYaml, AliasesThatMakeAHugeJob) {
  const std::string text =
      "trainingInput:\n  hyperparameters:\n    params:\n    - &p {categoricalValues: &v [" +
      Repeat("a,", 1000) + "]}\n" + Repeat("    - *p\n", 1000);
  EXPECT_THAT(ProblemsOf(text),
              HasSubstr("more than 100000 values, aliases counted; write a smaller file"));
}

TEST(HostileYaml, AnAliasOfItsOwnParent) {
  EXPECT_THAT(ProblemsOf("trainingInput: &t\n  masterConfig: *t\n"), HasSubstr("masterConfig"));
  EXPECT_THAT(ProblemsOf("labels: &l\n  x: *l\n"),
              HasSubstr("labels.x: wants text, not a mapping"));
}

// yaml-cpp's LoadAll never returns from these.
TEST(HostileYaml, WhatFollowsTheJob) {
  EXPECT_EQ(ProblemsOf(","),
            "f.yaml:1:1: a second YAML document starts here; keep one job per file, and look above "
            "for a `}` or `]` too many\n");
  EXPECT_THAT(ProblemsOf("{jobId: a}, b}"), StartsWith("f.yaml:1:11: a second YAML document"));
  EXPECT_THAT(ProblemsOf("jobId: a\n}\n"), StartsWith("f.yaml:2:1: "));
}

TEST(HostileYaml, ManyProblemsAreCounted) {
  std::string text = "trainingInput: {scaleTier: BASIC}\n";
  for (int i = 0; i < 150; ++i) text += "qqq" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ProblemsOf(text), HasSubstr("and 50 more problems\n"));
}

TEST(HostileYaml, ProblemsOnEveryLineOfALargeFileAreCounted) {
  std::string text;
  for (int i = 0; i < 60000; ++i) text += "q" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(ProblemsOf(text), HasSubstr("and 59900 more problems\n"));
}

TEST(HostileYaml, FilesThatCannotBeRead) {
  JobDraft absent, folder;
  EXPECT_FALSE(ReadJobFile("no/such/file.yaml", &absent));
  EXPECT_EQ(absent.problems.Text(),
            "no/such/file.yaml: cannot be read: No such file or directory; give the path of a job "
            "file after --config\n");
  EXPECT_FALSE(ReadJobFile("tests", &folder));
  EXPECT_EQ(folder.problems.Text(),
            "tests: cannot be read: Is a directory; give the path of a job file after --config\n");
}

// Damages `text` in one of the ways in which files are damaged.
std::string Damage(std::string text, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); };
  static const std::vector<std::string> kPieces = {
      "&a ",   "*a ",  "- ", ": ", "{",    "}",    "[",     "]",     "\"",    "'",
      "\n",    "\t",   "|",  ">",  "? ",   "!!x ", "---\n", "...\n", "%TAG ", "null",
      "1e999", "\xff", "#",  ",",  "<<: ", "\\",   "\r",    "  "};
  const int edits = 1 + static_cast<int>(below(4));
  for (int i = 0; i < edits; ++i) {
    const size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0:
        text.insert(at, kPieces[below(kPieces.size())]);
        break;
      case 1:
        text.erase(at, below(20));
        break;
      case 2:
        text.insert(at, text.substr(below(text.size() + 1), below(60)));
        break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

TEST(HostileYaml, EscapesThatMakeNoText) {
  for (const char* escape : {"\\N", "\\_", "\\xff"}) {
    const std::string text = std::string("trainingInput:\n  jobDir: \"a") + escape + "b\"\n";
    JobDraft draft;
    ReadJobYaml(text, "f.yaml", &draft);
    if (std::string(escape) == "\\xff") {  // ÿ
      EXPECT_EQ(draft.problems.Text(), "");
      EXPECT_EQ(draft.job.training_input().job_dir(),
                "a\xc3\xbf"
                "b");
      continue;
    }
    EXPECT_EQ(draft.problems.Text(),
              "f.yaml:2:11: an escape such as \\N or \\_ that makes no text; write the "
              "character itself\n");
  }
}

TEST(HostileYaml, RandomDamageNeverCrashesAndWhatIsReadIsWrittenAlike) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  const Catalog catalog = Catalog::BuiltIn();
  std::vector<std::string> texts;
  for (const char* folder : {"good", "bad"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string("tests/configs/corpus/") + folder)) {
      if (entry.path().extension() == ".yaml" && entry.file_size() < 4000) {
        texts.push_back(ReadFileForTest(entry.path()));
      }
    }
  }
  ASSERT_GT(texts.size(), 40u);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = Damage(texts[random() % texts.size()], random);
    JobDraft draft;
    ReadJobYaml(text, "f.yaml", &draft);
    CheckJob(catalog, &draft);
    JobDraft again;
    const std::string written = WriteJobYaml(draft.job);
    if (written.empty()) continue;
    ASSERT_TRUE(ReadJobYaml(written, "again.yaml", &again)) << text << "\n-- was written as\n"
                                                            << written;
    ASSERT_EQ(again.problems.Text(), "") << text << "\n-- was written as\n" << written;
    ASSERT_EQ(WriteJobYaml(again.job), written) << text;
  }
}

}  // namespace
}  // namespace muster
