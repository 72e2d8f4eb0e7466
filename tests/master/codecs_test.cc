// training.codec on the parameters of a model.
#include "master/codecs.h"

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

// "name=codec …" of a model after SetCodecs, or the error.
std::string Codecs(const CodecSpec& spec) {
  std::vector<ps::ParamSpec> params = {
      {.name = "conv/weights", .shape = {4}},
      {.name = "conv/bias", .shape = {4}},
      {.name = "conv/mean", .shape = {4}, .kind = ps::ParamSpec::Kind::kStatistic},
      {.name = "fc/weights", .shape = {4}}};
  const absl::Status status = SetCodecs(spec, &params);
  if (!status.ok()) return std::string(status.message());
  EXPECT_TRUE(ps::ParamTable::Make(params).ok());
  std::string text;
  for (const ps::ParamSpec& param : params) {
    text += param.codec == nullptr ? "- " : std::string(param.codec->name()) + " ";
  }
  return text;
}

TEST(CodecsTest, WithoutACodecAllTravelsAsItIs) {
  EXPECT_EQ(Codecs(CodecSpec()), "- - - - ");
  EXPECT_EQ(Codecs(Spec("none")), "- - - - ");
}

TEST(CodecsTest, EveryWeightGetsTheJobsCodecAndNoStatisticDoes) {
  EXPECT_EQ(Codecs(Spec("int8")), "int8 int8 - int8 ");
}

TEST(CodecsTest, TheFirstPatternThatMatchesDecides) {
  EXPECT_EQ(Codecs(Spec("int8", {{"*bias", "none"}, {"conv*", "fp16"}})), "fp16 - - int8 ");
  EXPECT_EQ(Codecs(Spec("", {{"fc/weights", "1bit"}})), "- - - 1bit ");
  EXPECT_EQ(Codecs(Spec("", {{"*", "topk"}, {"fc/w?ights", "1bit"}})), "topk topk - topk ");
  EXPECT_EQ(Codecs(Spec("bf16", {{"conv/mean", "1bit"}})), "bf16 bf16 - bf16 ");
}

TEST(CodecsTest, APatternThatMatchesNothingIsAnErrorWithTheNames) {
  EXPECT_EQ(Codecs(Spec("int8", {{"fcc*", "none"}})),
            "training.codec.parameters: no parameter matches 'fcc*'; the model has conv/weights, "
            "conv/bias, conv/mean, fc/weights");
}

TEST(CodecsTest, AnUnknownCodecIsAnErrorWithTheNames) {
  EXPECT_THAT(Codecs(Spec("int9")), HasSubstr("write one of none, fp16"));
  EXPECT_THAT(Codecs(Spec("int8", {{"*", "int9"}})), HasSubstr("write one of none, fp16"));
}

TEST(CodecsTest, PullsHaveTheirOwnByTheSameRules) {
  CodecSpec spec = Spec("int8", {{"*bias", ""}, {"fc*", ""}});
  spec.set_pull("bf16");
  spec.mutable_parameters(1)->set_pull("fp16");
  std::vector<ps::ParamSpec> params = {
      {.name = "conv/weights", .shape = {4}},
      {.name = "conv/bias", .shape = {4}},
      {.name = "conv/mean", .shape = {4}, .kind = ps::ParamSpec::Kind::kStatistic},
      {.name = "fc/weights", .shape = {4}}};
  ASSERT_TRUE(SetCodecs(spec, &params).ok());
  EXPECT_STREQ(params[0].pull_codec->name(), "bf16");
  EXPECT_EQ(params[1].pull_codec, nullptr) << "a pattern decides for both ways";
  EXPECT_EQ(params[2].pull_codec, nullptr);
  EXPECT_STREQ(params[3].pull_codec->name(), "fp16");
  EXPECT_EQ(params[3].codec, nullptr);
  EXPECT_EQ(FormatCodec(spec), "int8 pull bf16, *bias: none, fc*: none pull fp16");
  google::protobuf::RepeatedPtrField<ps::ParamSpecMessage> messages;
  ps::ToMessage(params, &messages);
  const auto table = ps::FromMessage(messages);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_STREQ(table->specs()[0].pull_codec->name(), "bf16");
  EXPECT_EQ(table->specs()[1].pull_codec, nullptr);
  messages[1].set_pull_codec("int9");
  EXPECT_TRUE(absl::IsInvalidArgument(ps::FromMessage(messages).status()));
  spec.set_pull("int9");
  EXPECT_THAT(std::string(SetCodecs(spec, &params).message()), HasSubstr("write one of none"));
}

TEST(CodecsTest, PullsHaveTheirOwnFraction) {
  CodecSpec spec = Spec("topk");
  spec.set_fraction(0.5);
  spec.set_pull("topk");
  spec.set_pull_fraction(0.25);
  std::vector<ps::ParamSpec> params = {{.name = "a", .shape = {100}}};
  ASSERT_TRUE(SetCodecs(spec, &params).ok());
  EXPECT_EQ(FormatCodec(spec), "topk 0.5 pull topk 0.25");
  google::protobuf::RepeatedPtrField<ps::ParamSpecMessage> messages;
  ps::ToMessage(params, &messages);
  const auto table = ps::FromMessage(messages);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->specs()[0].codec->fraction(), 0.5);
  EXPECT_EQ(table->specs()[0].pull_codec->fraction(), 0.25);
}

TEST(CodecsTest, ServersHearOfTheCodecWithTheParameters) {
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

TEST(CodecsTest, TheTextSaysWhatWasWritten) {
  EXPECT_EQ(FormatCodec(CodecSpec()), "none");
  CodecSpec spec = Spec("topk", {{"*bias", ""}});
  spec.set_fraction(0.01);
  EXPECT_EQ(FormatCodec(spec), "topk 0.01, *bias: none");
}

}  // namespace
}  // namespace muster::master
