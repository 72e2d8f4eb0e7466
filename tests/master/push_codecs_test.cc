// training.codec on the parameters of a model.
#include "master/push_codecs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "configs/codec_text.h"
#include "ps/param_message.h"

namespace muster::master {
namespace {

using ::testing::HasSubstr;

CodecSpec Spec(const std::string& push,
               const std::vector<std::pair<std::string, std::string>>& parameters = {}) {
  CodecSpec spec;
  spec.set_push(push);
  for (const auto& [pattern, codec] : parameters) {
    ParameterCodec* parameter = spec.add_parameters();
    parameter->set_pattern(pattern);
    parameter->set_push(codec);
  }
  return spec;
}

// "name=codec …" of a model after SetPushCodecs, or the error.
std::string Codecs(const CodecSpec& spec) {
  std::vector<ps::ParamSpec> params = {
      {.name = "conv/weights", .shape = {4}},
      {.name = "conv/bias", .shape = {4}},
      {.name = "conv/mean", .shape = {4}, .kind = ps::ParamSpec::Kind::kStatistic},
      {.name = "fc/weights", .shape = {4}}};
  const absl::Status status = SetPushCodecs(spec, &params);
  if (!status.ok()) return std::string(status.message());
  EXPECT_TRUE(ps::ParamTable::Make(params).ok());
  std::string text;
  for (const ps::ParamSpec& param : params) {
    text += param.codec == nullptr ? "- " : std::string(param.codec->name()) + " ";
  }
  return text;
}

TEST(PushCodecsTest, WithoutACodecAllTravelsAsItIs) {
  EXPECT_EQ(Codecs(CodecSpec()), "- - - - ");
  EXPECT_EQ(Codecs(Spec("none")), "- - - - ");
}

TEST(PushCodecsTest, EveryWeightGetsTheJobsCodecAndNoStatisticDoes) {
  EXPECT_EQ(Codecs(Spec("int8")), "int8 int8 - int8 ");
}

TEST(PushCodecsTest, TheFirstPatternThatMatchesDecides) {
  EXPECT_EQ(Codecs(Spec("int8", {{"*bias", "none"}, {"conv*", "fp16"}})), "fp16 - - int8 ");
  EXPECT_EQ(Codecs(Spec("", {{"fc/weights", "1bit"}})), "- - - 1bit ");
  EXPECT_EQ(Codecs(Spec("", {{"*", "topk"}, {"fc/w?ights", "1bit"}})), "topk topk - topk ");
  EXPECT_EQ(Codecs(Spec("bf16", {{"conv/mean", "1bit"}})), "bf16 bf16 - bf16 ");
}

TEST(PushCodecsTest, APatternThatMatchesNothingIsAnErrorWithTheNames) {
  EXPECT_EQ(Codecs(Spec("int8", {{"fcc*", "none"}})),
            "training.codec.parameters: no parameter matches 'fcc*'; the model has conv/weights, "
            "conv/bias, conv/mean, fc/weights");
}

TEST(PushCodecsTest, AnUnknownCodecIsAnErrorWithTheNames) {
  EXPECT_THAT(Codecs(Spec("int9")), HasSubstr("write one of none, fp16"));
  EXPECT_THAT(Codecs(Spec("int8", {{"*", "int9"}})), HasSubstr("write one of none, fp16"));
}

TEST(PushCodecsTest, ServersHearOfTheCodecWithTheParameters) {
  std::vector<ps::ParamSpec> params = {
      {.name = "a", .shape = {100}, .codec = *MakeCodec("topk", 0.25)},
      {.name = "b", .shape = {100}}};
  google::protobuf::RepeatedPtrField<ps::ParamSpecMessage> messages;
  ps::ToMessage(params, &messages);
  const auto table = ps::FromMessage(messages);
  ASSERT_TRUE(table.ok()) << table.status();
  ASSERT_NE(table->specs()[0].codec, nullptr);
  EXPECT_EQ(table->specs()[0].codec->EncodedSize(100), 25 * 6u);
  EXPECT_EQ(table->specs()[1].codec, nullptr);
  messages[1].set_codec("\xff");
  EXPECT_TRUE(absl::IsInvalidArgument(ps::FromMessage(messages).status()));
}

TEST(PushCodecsTest, TheTextSaysWhatWasWritten) {
  EXPECT_EQ(FormatCodec(CodecSpec()), "none");
  CodecSpec spec = Spec("topk", {{"*bias", ""}});
  spec.set_fraction(0.01);
  EXPECT_EQ(FormatCodec(spec), "topk 0.01, *bias: none");
}

}  // namespace
}  // namespace muster::master
