#include "master/param_message.h"

namespace muster::master {

void ToMessage(const std::vector<ps::ParamSpec>& specs,
               google::protobuf::RepeatedPtrField<ParamSpecMessage>* out) {
  for (const ps::ParamSpec& spec : specs) {
    ParamSpecMessage* message = out->Add();
    message->set_name(spec.name);
    for (int64_t d : spec.shape) message->add_shape(d);
    message->set_kind(static_cast<int>(spec.kind));
    message->mutable_init()->set_kind(static_cast<int>(spec.init.kind));
    message->mutable_init()->set_value(spec.init.value);
    message->set_decay(spec.decay);
    message->set_lr_scale(spec.lr_scale);
    message->set_momentum(spec.momentum);
  }
}

std::vector<ps::ParamSpec> FromMessage(
    const google::protobuf::RepeatedPtrField<ParamSpecMessage>& messages) {
  std::vector<ps::ParamSpec> specs;
  for (const ParamSpecMessage& message : messages) {
    ps::ParamSpec spec;
    spec.name = message.name();
    spec.shape.assign(message.shape().begin(), message.shape().end());
    spec.kind = static_cast<ps::ParamSpec::Kind>(message.kind());
    spec.init = {static_cast<ps::Init::Kind>(message.init().kind()), message.init().value()};
    spec.decay = message.decay();
    spec.lr_scale = message.lr_scale();
    spec.momentum = message.momentum();
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace muster::master
