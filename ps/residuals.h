// What codecs have kept back of a replica's gradients, in checkpoints: one part for each replica,
// beside those of the servers, written by the process that computes the replica. A part is a
// safetensors file as ps/checkpoint.h has it, with the metadata `replica`; parameters whose codec
// keeps nothing back are not in it. As no codec's block crosses a cut, a part fits any number of
// servers.
//
// A ResidualSaver is used by the client's thread, but for AddCut, which is thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "ps/client.h"
#include "ps/param.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"

namespace muster::ps {

// Whether what a replica has not sent yet is part of a run's state.
bool HasResiduals(const ParamTable& table);

// "<directory>/replica-<replica>.safetensors"
std::string ResidualPartPath(const std::string& directory, int32_t replica);

// Sets a replica's residuals to those of a part. Fails, naming the file, when that is damaged, of
// another model, replica or clock, or lacks a parameter.
absl::Status RestoreResiduals(Client& client, const ParamTable& table, int32_t replica,
                              const std::string& file, int64_t clock);

class ResidualSaver {
 public:
  // A replica's part lies in `file`, committed by rename, or could not be made. Called on a
  // thread of the saver.
  using OnSaved = std::function<void(int64_t clock, int32_t replica, const std::string& file,
                                     const absl::Status& status)>;
  // Borrows client, table and partition. Cuts go to <directory>/step-<clock>.
  ResidualSaver(Client& client, const ParamTable& table, const Partition& partition,
                std::vector<int32_t> replicas, std::string directory, OnSaved on_saved);
  // Returns when all that was copied is written.
  ~ResidualSaver();

  // Saves at this clock, which no replica has reached.
  void AddCut(int64_t clock);
  // All replicas go on with step `clock`. At a cut copies the residuals, which are then written in
  // the background; first waits for the cut before, where that is still being written: at most one
  // copy is held. Cuts before `clock` that were skipped (backup workers) get the same: nothing was
  // pushed since.
  void OnClock(int64_t clock);

 private:
  struct Copy {
    int32_t replica = 0;
    absl::StatusOr<std::vector<SavedSlice>> slices;
  };
  void Write(int64_t clock, const std::vector<Copy>& copies) const;

  Client& client_;
  const ParamTable& table_;
  const Partition& partition_;
  const std::vector<int32_t> replicas_;
  const std::string directory_;
  const OnSaved on_saved_;
  std::thread writing_;

  Mutex mu_;
  std::set<int64_t> cuts_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::ps
