// Encoder: what a worker pushes for a gradient. Gradients without a codec travel from where they
// lie; the others are encoded into memory of the replica, which also keeps what was not sent for
// its next gradient (kernels/codec.h). Or somebody else makes a replica's encodings (encodings.h).
//
// Used by one thread. A replica's memory is made with its first encoding: one arena of encodings,
// and one of residuals for the slices whose codec has one; a replica starts with residuals of 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "ps/checkpoint.h"
#include "ps/encodings.h"
#include "ps/param.h"
#include "rpc/transport.h"

namespace muster::ps {

class Encoder {
 public:
  // Borrows all; encodings lie in memory of `transport`.
  Encoder(rpc::Transport& transport, const ParamTable& table, const Partition& partition);

  // The payload of the push of a slice's gradient. It borrows `gradient`, or the replica's
  // encoding of the slice, which the next call for both overwrites.
  rpc::Payload Encode(int32_t replica, int32_t slice, std::span<const float> gradient);

  // From now on `to` makes the replica's encodings: Encode finds them where this says.
  ReplicaEncodings LeaveTo(ReplicaEncoder& to, int32_t replica);

  // Copies of what the replica has not sent yet, as weights, of the slices whose codec keeps it.
  // Fails when who makes its encodings cannot bring it.
  absl::StatusOr<std::vector<SavedSlice>> Residuals(int32_t replica);
  // Sets them to those of a checkpoint, whatever its slices were. Fails as Checkpoint::Read.
  // PRECONDITION: nobody else makes the replica's encodings.
  absl::Status RestoreResiduals(int32_t replica, const Checkpoint& saved);

 private:
  struct Replica {
    std::shared_ptr<std::byte[]> encodings;
    std::vector<float> residuals;
    ReplicaEncoder* left_to = nullptr;  // who makes them instead
  };
  Replica& ReplicaOf(int32_t replica);
  // Of the slice, which has a codec.
  SliceEncoding EncodingOf(Replica& own, size_t slice) const;
  bool HasResidual(const ParamSlice& slice) const;

  struct Place {
    size_t encoding = 0, residual = 0;  // within the arenas
  };

  rpc::Transport& transport_;
  const ParamTable& table_;
  const Partition& partition_;
  std::vector<Place> places_;  // by slice; those without a codec have none
  size_t encoded_size_ = 0, residual_size_ = 0;
  std::map<int32_t, Replica> replicas_;
};

}  // namespace muster::ps
