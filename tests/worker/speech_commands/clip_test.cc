// A file on its own has the features that an evaluation without noise gives it.
#include "worker/modules/speech_commands/clip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "kernels/philox.h"
#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

using ::testing::StartsWith;

class ClipTest : public ::testing::Test {
 protected:
  ClipTest() : front_end_(*MfccFrontEnd::Make({})) {
    for (size_t i = 0; i < samples_.size(); ++i) {
      samples_[i] = static_cast<int16_t>(Philox(DeriveKey(5, 0), i)[0] >> 18);
    }
  }

  // The features of `count` samples and silence after them.
  std::vector<float> Expected(size_t count) const {
    std::vector<float> pcm(16000, 0.0F), features(front_end_.output_size());
    for (size_t i = 0; i < std::min<size_t>(count, 16000); ++i) {
      pcm[i] = static_cast<float>(samples_[i]) / 32768;
    }
    MfccFrontEnd::Scratch scratch;
    front_end_.Compute(pcm, scratch, features);
    return features;
  }
  std::vector<float> Read(size_t count) {
    const std::string path = folder_ + "/clip.wav";
    EXPECT_TRUE(WriteWav(path, 16000, std::span(samples_).first(count)).ok());
    std::vector<float> features(front_end_.output_size());
    const absl::Status status = ReadClipFeatures(path, front_end_, features);
    EXPECT_TRUE(status.ok()) << status;
    return features;
  }

  const MfccFrontEnd front_end_;
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
  std::vector<int16_t> samples_ = std::vector<int16_t>(20000);
};

TEST_F(ClipTest, AClipOfTheRightLengthIsReadWhole) { EXPECT_EQ(Read(16000), Expected(16000)); }

TEST_F(ClipTest, AShortOneEndsInSilence) { EXPECT_EQ(Read(7001), Expected(7001)); }

TEST_F(ClipTest, ALongOneIsCut) { EXPECT_EQ(Read(20000), Expected(16000)); }

TEST_F(ClipTest, WhatIsNoClipIsNamed) {
  const std::string path = folder_ + "/text.wav";
  std::ofstream(path) << "no sound";
  std::vector<float> features(front_end_.output_size());
  const absl::Status status = ReadClipFeatures(path, front_end_, features);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), StartsWith(path));
}

}  // namespace
}  // namespace muster::worker
