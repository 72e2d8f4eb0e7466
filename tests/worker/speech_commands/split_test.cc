// The split by the speaker's hash. The percentages were computed with Python's hashlib by the
// formula of TensorFlow's which_set.
#include "worker/modules/speech_commands/split.h"

#include <gtest/gtest.h>

namespace muster::worker {
namespace {

TEST(SplitTest, SpeakerIsWhatStandsBeforeNohash) {
  EXPECT_EQ(Speaker("a5d485dc_nohash_0.wav"), "a5d485dc");
  EXPECT_EQ(Speaker("a_nohash_b_nohash_1.wav"), "a");
  EXPECT_EQ(Speaker("_nohash_7.wav"), "");
  EXPECT_EQ(Speaker("anna.wav"), "anna.wav");
}

TEST(SplitTest, KnownFiles) {
  const struct {
    const char* file;
    double percentage;
  } known[] = {
      {"78e51061_nohash_0.wav", 1.8961116812833523}, {"7311d8a3_nohash_1.wav", 3.1212248140664753},
      {"9b810e76_nohash_0.wav", 7.49959951266348},   {"414c343c_nohash_2.wav", 10.24940692074155},
      {"c386bbc4_nohash_0.wav", 13.912814214176045}, {"2265b1f5_nohash_9.wav", 14.13353915612056},
      {"105a0eea_nohash_0.wav", 19.550732668867205}, {"anna.wav", 19.589566585343825},
      {"a5d485dc_nohash_0.wav", 23.080838643616726}, {"012c8314_nohash_0.wav", 95.15189897382183},
      {"_nohash_7.wav", 98.04821758008165},
  };
  for (const auto& k : known) {
    SCOPED_TRACE(k.file);
    EXPECT_EQ(WhichSplit(k.file, 10, 10), k.percentage < 10   ? Split::kValidation
                                          : k.percentage < 20 ? Split::kTesting
                                                              : Split::kTraining);
    // The borders pin the percentage itself.
    EXPECT_EQ(WhichSplit(k.file, k.percentage + 1e-6, 0), Split::kValidation);
    EXPECT_EQ(WhichSplit(k.file, k.percentage - 1e-6, 0), Split::kTraining);
    EXPECT_EQ(WhichSplit(k.file, 1, k.percentage - 1 + 1e-6), Split::kTesting);
  }
}

TEST(SplitTest, NoPercentageMeansTraining) {
  EXPECT_EQ(WhichSplit("78e51061_nohash_0.wav", 0, 0), Split::kTraining);
  EXPECT_EQ(WhichSplit("78e51061_nohash_0.wav", 0, 100), Split::kTesting);
}

}  // namespace
}  // namespace muster::worker
