#include "telemetry/time.h"

#include <gtest/gtest.h>

namespace muster {
namespace {

TEST(TimeTest, FormatsInUtcWithMilliseconds) {
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(FormatTime(1'795'242'600'123), "2026-11-21T06:30:00.123Z");
}

TEST(TimeTest, ReadsWhatItWritesAndOtherNumbersOfDigits) {
  EXPECT_EQ(*ParseTime("2026-11-21T06:30:00.123Z"), 1'795'242'600'123);
  EXPECT_EQ(*ParseTime("2026-11-21T06:30:00Z"), 1'795'242'600'000);
  EXPECT_EQ(*ParseTime("2026-11-21T06:30:00.123456789Z"), 1'795'242'600'123);
  EXPECT_EQ(*ParseTime("2026-11-21T06:30:00.5Z"), 1'795'242'600'500);
}

TEST(TimeTest, RefusesWhatIsNoTime) {
  for (const char* text :
       {"", "yesterday", "2026-11-21", "2026-11-21T06:30:00", "2026-11-21T06:30:00.Z",
        "2026-13-21T06:30:00Z", "2026-11-21T24:30:00Z", "2026-11-21T06:30:00Zx"}) {
    EXPECT_FALSE(ParseTime(text).ok()) << text;
  }
}

TEST(TimeTest, DurationsReadWell) {
  EXPECT_EQ(FormatDuration(-1), "?");
  EXPECT_EQ(FormatDuration(2600), "3 s");
  EXPECT_EQ(FormatDuration(125'000), "2 min 05 s");
  EXPECT_EQ(FormatDuration(3'720'000), "1 h 02 min");
  EXPECT_EQ(FormatDuration(273'600'000), "3 d 4 h");
}

}  // namespace
}  // namespace muster
