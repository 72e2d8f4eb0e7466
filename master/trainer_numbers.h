// TrainerNumbers: the numbers of trainers in lease_moves.h: the chief first, then the workers.
//
// A value: thread-safe.
#pragma once

#include "master/membership.h"

namespace muster::master {

struct TrainerNumbers {
  int chief = 1;  // 0 or 1
  int workers = 0;

  int count() const { return chief + workers; }
  // PRECONDITION: the role is a trainer.
  int Of(const RoleId& role) const {
    return role.kind == RoleId::Kind::kChief ? role.index : chief + role.index;
  }
  RoleId RoleOf(int trainer) const {
    if (trainer < chief) return {RoleId::Kind::kChief, trainer};
    return {RoleId::Kind::kWorker, trainer - chief};
  }
};

}  // namespace muster::master
