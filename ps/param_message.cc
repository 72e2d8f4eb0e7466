#include "ps/param_message.h"

#include <fmt/format.h>

namespace muster::ps {

void ToMessage(const std::vector<ParamSpec>& specs,
               google::protobuf::RepeatedPtrField<ParamSpecMessage>* out) {
  for (const ParamSpec& spec : specs) {
    ParamSpecMessage* message = out->Add();
    message->set_name(spec.name);
    for (int64_t d : spec.shape) message->add_shape(d);
    message->set_kind(static_cast<int>(spec.kind));
    message->mutable_init()->set_kind(static_cast<int>(spec.init.kind));
    message->mutable_init()->set_value(spec.init.value);
    message->set_decay(spec.decay);
    message->set_lr_scale(spec.lr_scale);
    message->set_momentum(spec.momentum);
    if (spec.pull_codec != nullptr) {
      message->set_pull_codec(spec.pull_codec->name());
      message->set_pull_fraction(spec.pull_codec->fraction());
    }
    if (spec.codec == nullptr) continue;
    message->set_codec(spec.codec->name());
    message->set_fraction(spec.codec->fraction());
  }
}

absl::StatusOr<ParamTable> FromMessage(
    const google::protobuf::RepeatedPtrField<ParamSpecMessage>& messages) {
  constexpr int kKinds = static_cast<int>(ParamSpec::Kind::kStatistic) + 1;
  constexpr int kInits = static_cast<int>(Init::Kind::kUniform) + 1;
  std::vector<ParamSpec> specs;
  for (const ParamSpecMessage& message : messages) {
    const int kind = message.kind(), init = message.init().kind();
    if (kind < 0 || kind >= kKinds || init < 0 || init >= kInits) {
      return absl::InvalidArgumentError(
          fmt::format("parameter '{}' is of unknown kind {} with first values of kind {}",
                      message.name(), kind, init));
    }
    ParamSpec spec;
    spec.name = message.name();
    spec.shape.assign(message.shape().begin(), message.shape().end());
    spec.kind = static_cast<ParamSpec::Kind>(kind);
    spec.init = {static_cast<Init::Kind>(init), message.init().value()};
    spec.decay = message.decay();
    spec.lr_scale = message.lr_scale();
    spec.momentum = message.momentum();
    if (!message.codec().empty()) {
      ASSIGN_OR_RETURN(spec.codec, MakeCodec(message.codec(), message.fraction()));
    }
    if (!message.pull_codec().empty()) {
      ASSIGN_OR_RETURN(spec.pull_codec, MakeCodec(message.pull_codec(), message.pull_fraction()));
    }
    specs.push_back(std::move(spec));
  }
  return ParamTable::Make(std::move(specs));
}

}  // namespace muster::ps
