#include "master/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Manifest Example() {
  Manifest manifest;
  manifest.step = 400;
  manifest.created_ms = 1'795'242'600'000;
  manifest.parts = {{"ps-0.safetensors", 4096}, {"ps-1.safetensors", 8192}};
  manifest.residuals = {{"replica-0.safetensors", 512}};
  manifest.metrics = {{"train_loss", 0.5}, {"validation_accuracy", 0.875}};
  RunIdentity& id = manifest.identity;
  id.replicas = 10;
  id.seed = 18'446'744'073'709'551'615u;
  id.module = "speech_commands";
  id.module_flags = {{"model_architecture", "conv"}, {"time_shift_ms", "100"}};
  id.model_fingerprint = "0123abcd";
  id.batch_size = 100;
  id.consistency = "BSP";
  id.optimizer = "adam";
  id.optimizer_params = {{"beta1", 0.9}};
  id.schedule = {{15'000, 0.001}, {3'000, 0.0001}};
  id.build_id = "b1";
  id.device = "2 threads, avx2";
  return manifest;
}

std::string Refusal(const RunIdentity& now) {
  std::vector<std::string> warnings;
  return std::string(CheckResume(Example(), now, &warnings).message());
}

TEST(ManifestTest, EveryFieldComesBack) {
  const Manifest manifest = Example();
  const auto read = DecodeManifest(EncodeManifest(manifest));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(EncodeManifest(*read), EncodeManifest(manifest));
  EXPECT_EQ(read->identity.seed, manifest.identity.seed);
  EXPECT_EQ(read->parts[1].bytes, 8192);
  ASSERT_EQ(read->residuals.size(), 1u);
  EXPECT_EQ(read->residuals[0].file, "replica-0.safetensors");
  EXPECT_EQ(read->residuals[0].bytes, 512);
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckResume(*read, manifest.identity, &warnings).ok());
  EXPECT_THAT(warnings, IsEmpty());
}

// As a build wrote it that did not know the field: it means what the field's default means.
TEST(ManifestTest, AManifestWithoutALaterFieldResumes) {
  std::string text = EncodeManifest(Example());
  const std::string field = "\"scaleByStaleness\": false,";
  ASSERT_NE(text.find(field), std::string::npos);
  text.erase(text.find(field), field.size());
  const auto read = DecodeManifest(text);
  ASSERT_TRUE(read.ok()) << read.status();
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckResume(*read, Example().identity, &warnings).ok());
  RunIdentity scaled = Example().identity;
  scaled.scale_by_staleness = true;
  EXPECT_THAT(std::string(CheckResume(*read, scaled, &warnings).message()),
              HasSubstr("training.consistency.scaleByStaleness was false, is true"));
}

TEST(ManifestTest, EveryPrefixOfTheTextIsRefused) {
  const std::string text = EncodeManifest(Example());
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    EXPECT_FALSE(DecodeManifest(text.substr(0, size)).ok()) << size;
  }
}

TEST(ManifestTest, APartOutsideOfTheFolderIsRefused) {
  Manifest manifest = Example();
  manifest.parts[0].file = "../ps-0.safetensors";
  EXPECT_THAT(std::string(DecodeManifest(EncodeManifest(manifest)).status().message()),
              HasSubstr("a name without a folder"));
}

TEST(CheckResumeTest, EachChangedFieldIsNamedWithBothValues) {
  const auto changed = [](auto change) {
    RunIdentity id = Example().identity;
    change(id);
    return Refusal(id);
  };
  EXPECT_THAT(changed([](auto& id) { id.replicas = 5; }), HasSubstr("trainers was 10, is 5"));
  EXPECT_THAT(changed([](auto& id) { id.seed = 7; }),
              HasSubstr("training.seed was 18446744073709551615, is 7"));
  EXPECT_THAT(changed([](auto& id) { id.module = "mnist"; }),
              HasSubstr("trainingInput.pythonModule was speech_commands, is mnist"));
  EXPECT_THAT(changed([](auto& id) { id.module_flags["time_shift_ms"] = "50"; }),
              HasSubstr("flag --time_shift_ms was 100, is 50"));
  EXPECT_THAT(changed([](auto& id) { id.module_flags.erase("time_shift_ms"); }),
              HasSubstr("flag --time_shift_ms was 100, is not set"));
  EXPECT_THAT(changed([](auto& id) { id.model_fingerprint = "x"; }), HasSubstr("the model"));
  EXPECT_THAT(changed([](auto& id) { id.batch_size = 50; }),
              HasSubstr("training.batchSize was 100, is 50"));
  EXPECT_THAT(changed([](auto& id) { id.consistency = "SSP"; }),
              HasSubstr("training.consistency.mode was BSP, is SSP"));
  EXPECT_THAT(changed([](auto& id) { id.scale_by_staleness = true; }),
              HasSubstr("consistency.scaleByStaleness"));
  EXPECT_THAT(changed([](auto& id) { id.backup_workers = 1; }),
              HasSubstr("training.consistency.backupWorkers was 0, is 1"));
  EXPECT_THAT(changed([](auto& id) { id.staleness = 2; }), HasSubstr("consistency.staleness"));
  EXPECT_THAT(changed([](auto& id) { id.optimizer = "sgd"; }),
              HasSubstr("training.optimizer.name was adam, is sgd"));
  EXPECT_THAT(changed([](auto& id) { id.optimizer_params["beta2"] = 0.99; }),
              HasSubstr("training.optimizer.params.beta2 was not set, is 0.99"));
  EXPECT_THAT(changed([](auto& id) { id.weight_decay = 0.1; }), HasSubstr("weightDecay"));
  EXPECT_THAT(changed([](auto& id) { id.clip_value = 0.5; }),
              HasSubstr("training.optimizer.clipValue was 0, is 0.5"));
  EXPECT_THAT(changed([](auto& id) { id.clip_norm = 0.5; }),
              HasSubstr("training.optimizer.clipNorm was 0, is 0.5"));
  EXPECT_THAT(changed([](auto& id) { id.codec = "int8"; }),
              HasSubstr("training.codec was none, is int8"));
}

TEST(CheckResumeTest, AllChangesAreToldAtOnce) {
  RunIdentity id = Example().identity;
  id.seed = 7;
  id.batch_size = 50;
  EXPECT_THAT(Refusal(id), HasSubstr("training.seed"));
  EXPECT_THAT(Refusal(id), HasSubstr("training.batchSize"));
  EXPECT_THAT(Refusal(id), HasSubstr("Set them back"));
}

TEST(CheckResumeTest, AnotherFutureIsAllowedAnotherPastIsNot) {
  RunIdentity id = Example().identity;
  id.schedule = {{400, 0.001}, {20'000, 0.01}};
  EXPECT_EQ(Refusal(id), "");
  id.schedule = {{200, 0.001}, {100'000, 0.001}};
  EXPECT_EQ(Refusal(id), "");
  id.schedule = {{399, 0.001}, {20'000, 0.01}};
  EXPECT_THAT(Refusal(id), HasSubstr("training.schedule up to step 400 was 400 steps at 0.001, is "
                                     "399 steps at 0.001, 1 steps at 0.01"));
}

// Step 400 lies within the first stage.
TEST(CheckResumeTest, AChangedShapeIsAnotherPast) {
  Manifest manifest = Example();
  manifest.identity.schedule = {{900, 0.1, 0, "COSINE"}, {100, 0.01}};
  const auto read = DecodeManifest(EncodeManifest(manifest));
  ASSERT_TRUE(read.ok()) << read.status();
  const auto refusal = [&](auto change) {
    RunIdentity id = manifest.identity;
    change(id.schedule);
    std::vector<std::string> warnings;
    return std::string(CheckResume(*read, id, &warnings).message());
  };
  const std::string was =
      "training.schedule up to step 400 was 400 of 900 steps from 0.1 to 0 (COSINE), is ";
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_EQ(refusal([](auto& stages) { stages[1] = {50, 0.01, 0.005, "LINEAR"}; }), "");
  EXPECT_THAT(refusal([](auto& stages) { stages[0].shape = "LINEAR"; }),
              HasSubstr(was + "400 of 900 steps from 0.1 to 0 (LINEAR)"));
  EXPECT_THAT(refusal([](auto& stages) {
                stages[0] = {900, 0.1, 0, "POLYNOMIAL", 0.5};
              }),
              HasSubstr(was + "400 of 900 steps from 0.1 to 0 (POLYNOMIAL, power 0.5)"));
  EXPECT_THAT(refusal([](auto& stages) { stages[0].end_learning_rate = 0.05; }),
              HasSubstr(was + "400 of 900 steps from 0.1 to 0.05 (COSINE)"));
  EXPECT_THAT(refusal([](auto& stages) { stages[0].end_learning_rate.reset(); }),
              HasSubstr(was + "400 steps at 0.1"));
  EXPECT_THAT(refusal([](auto& stages) { stages[0].steps = 1000; }),
              HasSubstr(was + "400 of 1000 steps from 0.1 to 0 (COSINE)"));
}

TEST(CheckResumeTest, RoundingOnlyIsAWarning) {
  RunIdentity id = Example().identity;
  id.device = "4 threads, avx2";
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckResume(Example(), id, &warnings).ok());
  EXPECT_THAT(warnings,
              ElementsAre(HasSubstr("what computes was 2 threads, avx2, is 4 threads, ")));
  // Not known yet.
  id.device = "";
  warnings.clear();
  EXPECT_TRUE(CheckResume(Example(), id, &warnings).ok());
  EXPECT_THAT(warnings, IsEmpty());
}

// What a manifest of before says of device and precision, and what is said about going on where
// `now` computes.
std::vector<std::string> WarningsAfter(const std::string& device, const std::string& precision,
                                       const std::string& now) {
  std::string text = EncodeManifest(Example());
  const std::string field = "\"device\": \"2 threads, avx2\"";
  const size_t at = text.find(field);
  EXPECT_NE(at, std::string::npos);
  text.replace(at, field.size(), "\"device\": \"" + device + "\"" + precision);
  const auto read = DecodeManifest(text);
  EXPECT_TRUE(read.ok()) << read.status();
  RunIdentity id = Example().identity;
  id.device = now;
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckResume(*read, id, &warnings).ok());
  return warnings;
}

TEST(CheckResumeTest, AManifestThatSaysThePrecisionBesideTheDeviceIsUnderstood) {
  const std::string bf16 = ", \"precision\": \"BF16\"";
  EXPECT_THAT(WarningsAfter("2 threads, avx2", bf16, "2 threads, avx2"), IsEmpty());
  EXPECT_THAT(WarningsAfter("1 thread, avx2", bf16, "1 thread, avx2"), IsEmpty());
  EXPECT_THAT(WarningsAfter("NVIDIA H200", bf16, "NVIDIA H200, BF16"), IsEmpty());
  EXPECT_THAT(WarningsAfter("NVIDIA H200", bf16, "NVIDIA H200, TF32"),
              ElementsAre(HasSubstr("what computes was NVIDIA H200, BF16, is NVIDIA H200, TF32:")));
  EXPECT_THAT(WarningsAfter("2 threads, avx2 and 4 x NVIDIA H200 and NVIDIA A100", bf16,
                            "2 threads, avx2 and 4 x NVIDIA H200, BF16 and NVIDIA A100, BF16"),
              IsEmpty());
  // Before there was a choice.
  EXPECT_THAT(WarningsAfter("NVIDIA H200", "", "NVIDIA H200, TF32"), IsEmpty());
  // As it is written now.
  EXPECT_THAT(WarningsAfter("NVIDIA H200, FP32", "", "NVIDIA H200, FP32"), IsEmpty());
  EXPECT_THAT(WarningsAfter("", bf16, "NVIDIA H200, TF32"), IsEmpty()) << "not known";
}

TEST(CheckResumeTest, DataIsComparedOnlyWhenBothAreKnown) {
  Manifest manifest = Example();
  RunIdentity id = manifest.identity;
  id.data_fingerprint = "d1";
  std::vector<std::string> warnings;
  EXPECT_TRUE(CheckResume(manifest, id, &warnings).ok());
  manifest.identity.data_fingerprint = "d2";
  EXPECT_THAT(std::string(CheckResume(manifest, id, &warnings).message()), HasSubstr("the data"));
}

}  // namespace
}  // namespace muster::master
