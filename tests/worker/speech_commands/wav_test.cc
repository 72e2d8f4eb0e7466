// Reading WAV files: what is accepted, and for every way to be wrong its own message. The files are
// written by libsndfile where it can write them.
#include "worker/modules/speech_commands/wav.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sndfile.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/harness/temporary_folder.h"

namespace muster::worker {
namespace {

using testing::HasSubstr;

class WavTest : public testing::Test {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < samples_.size(); ++i) {
      samples_[i] = static_cast<int16_t>(i * 7919);
    }
  }

  void WriteWithSndfile(int format, int channels, int rate) {
    SF_INFO info = {};
    info.format = format;
    info.channels = channels;
    info.samplerate = rate;
    SNDFILE* file = sf_open(path_.c_str(), SFM_WRITE, &info);
    ASSERT_NE(file, nullptr) << sf_strerror(nullptr);
    sf_set_string(file, SF_STR_COMMENT, "a chunk to be walked over");
    sf_write_short(file, samples_.data(), static_cast<sf_count_t>(samples_.size()));
    sf_close(file);
  }
  std::string Contents() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void SetContents(const std::string& contents) const {
    std::ofstream(path_, std::ios::binary) << contents;
  }
  // The message of ReadWav, which CheckWav must share.
  std::string Error() {
    std::vector<int16_t> read;
    const absl::Status status = ReadWav(path_, 16000, 16000, read);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status, CheckWav(path_, 16000));
    std::string message(status.message());
    EXPECT_EQ(message.substr(0, path_.size() + 2), path_ + ": ");
    return message.substr(std::min(message.size(), path_.size() + 2));
  }

  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path(), path_ = dir_ + "/clip.wav";
  std::vector<int16_t> samples_ = std::vector<int16_t>(16000);
};

TEST_F(WavTest, ReadsWhatSndfileWrites) {
  for (const int container : {SF_FORMAT_WAV, SF_FORMAT_WAVEX}) {
    WriteWithSndfile(container | SF_FORMAT_PCM_16, 1, 16000);
    std::vector<int16_t> read;
    ASSERT_EQ(ReadWav(path_, 16000, 1 << 20, read), absl::OkStatus());
    EXPECT_EQ(read, samples_);
    EXPECT_EQ(CheckWav(path_, 16000), absl::OkStatus());
  }
}

TEST_F(WavTest, ReadsNoMoreThanAskedFor) {
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  std::vector<int16_t> read;
  ASSERT_EQ(ReadWav(path_, 16000, 100, read), absl::OkStatus());
  EXPECT_EQ(read, std::vector<int16_t>(samples_.begin(), samples_.begin() + 100));
}

TEST_F(WavTest, ReadsARecordingLongerThanItsBuffer) {
  samples_.resize(300000, 17);
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  std::vector<int16_t> read;
  ASSERT_EQ(ReadWav(path_, 16000, 1 << 20, read), absl::OkStatus());
  EXPECT_EQ(read, samples_);
}

TEST_F(WavTest, SndfileReadsWhatWeWrite) {
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  EXPECT_EQ(std::filesystem::file_size(path_), 32044);
  SF_INFO info = {};
  SNDFILE* file = sf_open(path_.c_str(), SFM_READ, &info);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(info.channels, 1);
  EXPECT_EQ(info.samplerate, 16000);
  std::vector<int16_t> read(16000);
  EXPECT_EQ(sf_read_short(file, read.data(), 16000), 16000);
  sf_close(file);
  EXPECT_EQ(read, samples_);
}

TEST_F(WavTest, WriteLeavesNoPartOfAFile) {
  EXPECT_THAT(WriteWav(dir_ + "/absent/clip.wav", 16000, samples_).message(),
              HasSubstr("cannot be written"));
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir_)) ++files;
  EXPECT_EQ(files, 1);
}

TEST_F(WavTest, Absent) { EXPECT_EQ(Error(), "cannot be opened: No such file or directory"); }

TEST_F(WavTest, Directory) {
  std::filesystem::create_directory(path_);
  EXPECT_EQ(Error(), "is not a regular file");
}

TEST_F(WavTest, ZeroLength) {
  SetContents("");
  EXPECT_EQ(Error(), "empty file");
}

TEST_F(WavTest, NotAWav) {
  SetContents("This is a text that somebody has named .wav.");
  EXPECT_EQ(Error(), "not a WAV file (it does not begin with RIFF … WAVE)");
  SetContents("short");
  EXPECT_EQ(Error(), "not a WAV file (it does not begin with RIFF … WAVE)");
  WriteWithSndfile(SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 1, 16000);
  EXPECT_EQ(Error(), "not a WAV file (it does not begin with RIFF … WAVE)");
}

TEST_F(WavTest, Stereo) {
  WriteWithSndfile(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 2, 16000);
  EXPECT_EQ(Error(), "2 channels; convert it to mono");
}

TEST_F(WavTest, EightBit) {
  WriteWithSndfile(SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 1, 16000);
  EXPECT_EQ(Error(), "8 bits per sample; convert it to 16");
}

TEST_F(WavTest, Float) {
  WriteWithSndfile(SF_FORMAT_WAV | SF_FORMAT_FLOAT, 1, 16000);
  EXPECT_EQ(Error(), "format 3, not PCM; convert it to 16-bit PCM");
}

TEST_F(WavTest, OtherSampleRate) {
  WriteWithSndfile(SF_FORMAT_WAV | SF_FORMAT_PCM_16, 1, 44100);
  EXPECT_EQ(Error(), "44100 Hz; convert it to 16000 Hz (--sample_rate)");
}

TEST_F(WavTest, NoSamples) {
  ASSERT_EQ(WriteWav(path_, 16000, {}), absl::OkStatus());
  EXPECT_EQ(Error(), "no samples");
}

TEST_F(WavTest, TruncatedInTheSamples) {
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  SetContents(Contents().substr(0, 44 + 1234));
  EXPECT_EQ(Error(), "truncated: chunk 'data' has 1234 of 32000 bytes");
}

TEST_F(WavTest, TruncatedAnywhereIsNamedAndNeverRead) {
  samples_.resize(50);
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  const std::string whole = Contents();
  for (size_t length = 0; length < whole.size(); ++length) {
    SetContents(whole.substr(0, length));
    EXPECT_THAT(Error(), HasSubstr(length == 0 ? "empty file" : "truncated")) << length;
  }
}

TEST_F(WavTest, RandomDamageNeverReadsOutsideTheFile) {
  samples_.resize(200);
  ASSERT_EQ(WriteWav(path_, 16000, samples_), absl::OkStatus());
  const std::string whole = Contents();
  const uint32_t seed = 20261121;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 500; ++i) {
    std::string damaged = whole;
    for (int k = 0; k < 3; ++k) {
      damaged[random() % 60] = static_cast<char>(random());
    }
    SetContents(damaged);
    std::vector<int16_t> read;
    const absl::Status status = ReadWav(path_, 16000, 16000, read);
    EXPECT_TRUE(!status.ok() || read.size() <= 200) << read.size();
  }
}

}  // namespace
}  // namespace muster::worker
