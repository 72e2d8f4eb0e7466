// Scalars: every form that is taken, and the limits.
#include "configs/scalar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "configs/nearest.h"

namespace muster {
namespace {

std::optional<int64_t> Int(const char* text) {
  Wrong wrong;
  return ParseInt(text, INT64_MIN, INT64_MAX, &wrong);
}

TEST(Scalar, Integers) {
  EXPECT_EQ(Int("9"), 9);
  EXPECT_EQ(Int("+9"), 9);
  EXPECT_EQ(Int("-9"), -9);
  EXPECT_EQ(Int("9.0"), 9);
  EXPECT_EQ(Int("1e3"), 1000);
  EXPECT_EQ(Int("0"), 0);
  EXPECT_EQ(Int("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(Int("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const char* bad : {"", "9.5", "nine", "0x10", "010", "-010", "9 ", " 9", "+-9", "--9",
                          "1_000", "9223372036854775808", "1e300", "nan", "inf"}) {
    EXPECT_EQ(Int(bad), std::nullopt) << bad;
  }
}

TEST(Scalar, UnsignedIntegers) {
  Wrong wrong;
  EXPECT_EQ(ParseUint("18446744073709551615", &wrong), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseUint("1e3", &wrong), 1000u);
  for (const char* bad : {"18446744073709551616", "-1", "-1.0", "00", "x", ""}) {
    EXPECT_EQ(ParseUint(bad, &wrong), std::nullopt) << bad;
  }
}

TEST(Scalar, Doubles) {
  Wrong wrong;
  EXPECT_EQ(ParseDouble("1e-3", &wrong), 0.001);
  EXPECT_EQ(ParseDouble(".5", &wrong), 0.5);
  EXPECT_EQ(ParseDouble("-.inf", &wrong), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(*ParseDouble(".NaN", &wrong)));
  for (const char* bad : {"", "1e999", "1,5", "0.1f", "one"}) {
    EXPECT_EQ(ParseDouble(bad, &wrong), std::nullopt) << bad;
  }
}

TEST(Scalar, Durations) {
  Wrong wrong;
  const auto text = [&](const char* t) {
    const auto d = ParseDuration(t, &wrong);
    return d ? FormatDuration(*d) : "none";
  };
  EXPECT_EQ(text("7200s"), "7200s");
  EXPECT_EQ(text("0.5s"), "0.5s");
  EXPECT_EQ(text("-1.25s"), "-1.25s");
  EXPECT_EQ(text("1.123456789s"), "1.123456789s");
  EXPECT_EQ(text("5m"), "300s");
  EXPECT_EQ(text("2h"), "7200s");
  EXPECT_EQ(text("7d"), "604800s");
  for (const char* bad :
       {"", "s", "m", "7200", "1.5h", "2 h", "2H", "1w", "3652501d", "1.s", ".5s", "1.1234567890s",
        "1s ", "1 s", "--1s", "315576000001s", "99999999999999999999s", "1e3s"}) {
    EXPECT_EQ(text(bad), "none") << bad;
  }
}

TEST(Scalar, QuotedShowsControlCharactersAndCutsBetweenCharacters) {
  EXPECT_EQ(Quoted("a\tb\x7f"), "'a\\x09b\\x7f'");
  const std::string euros = "€€€€€€€€€€€€€€€€€€€€€€";
  EXPECT_EQ(Quoted(euros), "'€€€€€€€€€€€€€€€€€€€€…'");
}

TEST(Nearest, CountsEditsAndSwaps) {
  EXPECT_EQ(EditDistance("worker", "worker"), 0);
  EXPECT_EQ(EditDistance("wroker", "worker"), 1);
  EXPECT_EQ(EditDistance("worke", "worker"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("Worker_Count", "workerCount"), 0);
}

TEST(Nearest, OffersOnlyWhatIsNear) {
  const std::vector<std::string> tiers = {"BASIC", "STANDARD_1", "PREMIUM_1"};
  EXPECT_EQ(Nearest("basic", tiers), "BASIC");
  EXPECT_EQ(Nearest("STANDART_1", tiers), "STANDARD_1");
  EXPECT_EQ(Nearest("huge", tiers), "");
  EXPECT_EQ(Nearest("", tiers), "");
  EXPECT_EQ(WriteNearest("huge", tiers), "write one of BASIC, STANDARD_1, PREMIUM_1");
}

TEST(Nearest, AVeryLongNameIsAnswered) {
  EXPECT_EQ(Nearest(std::string(1 << 20, 'x'), {"BASIC"}), "");
}

}  // namespace
}  // namespace muster
