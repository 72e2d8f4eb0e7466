// The front end as ONNX nodes, run by somebody else's runtime, against the front end itself.
#include "worker/modules/speech_commands/front_end_onnx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "telemetry/file.h"
#include "tests/harness/clips.h"
#include "tests/harness/onnx_runtime.h"
#include "tests/harness/temporary_folder.h"
#include "tests/worker/speech_commands/mfcc_tolerance.h"

namespace muster::worker {
namespace {

constexpr int kSamples = 16000;

TEST(FrontEndOnnx, AgreesWithTheFrontEndToTheRoundingOfFloat32) {
  if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok()) << front_end.status();
  OnnxBuilder onnx("front_end");
  const std::string pcm = onnx.AddInput("pcm", {OnnxBuilder::kBatch, kSamples});
  onnx.AddOutput(AddMfccNodes(*front_end, pcm, onnx),
                 {OnnxBuilder::kBatch, front_end->output_size()});
  const harness::TemporaryFolder directory;
  const std::string model = directory.path() + "/front_end.onnx";
  ASSERT_TRUE(WriteFileAtomically(model, onnx.Serialize()).ok());

  std::vector<std::string> names;
  std::vector<std::vector<float>> clips;
  for (const harness::Clip& clip : harness::Clips()) {
    names.push_back(clip.name);
    clips.push_back(clip.pcm());
  }
  const auto rows = harness::RunOnnxRuntime(model, clips, directory.path());
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), clips.size());

  const int coefficients = front_end->settings().coefficients;
  for (size_t i = 0; i < clips.size(); ++i) {
    SCOPED_TRACE(names[i]);
    MfccFrontEnd::Scratch scratch;
    std::vector<float> own(front_end->output_size());
    front_end->Compute(clips[i], scratch, own);
    ASSERT_EQ((*rows)[i].size(), own.size());
    for (int f = 0; f < front_end->frames(); f += 7) {
      const std::span<const float> frame(&clips[i][f * front_end->settings().stride],
                                         front_end->settings().window);
      const double tolerance = MfccTolerance(*front_end, frame);
      for (int c = 0; c < coefficients; ++c) {
        const int at = f * coefficients + c;
        ASSERT_NEAR((*rows)[i][at], own[at], tolerance) << "frame " << f << ", coefficient " << c;
      }
    }
  }
}

TEST(FrontEndOnnx, IsSmallBecauseUnheardBinsAreLeftOut) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok()) << front_end.status();
  OnnxBuilder onnx("front_end");
  AddMfccNodes(*front_end, onnx.AddInput("pcm", {OnnxBuilder::kBatch, kSamples}), onnx);
  // 127 of 257 bins, real and imaginary, of 480 samples; and a few KB for the rest.
  EXPECT_LT(onnx.Serialize().size(), 127 * 2 * 480 * sizeof(float) + 40000);
}

}  // namespace
}  // namespace muster::worker
