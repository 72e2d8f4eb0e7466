// CheckpointCommits: what follows once servers have written their parts of a checkpoint.
//
//   CutDone of every server, and for every replica that has residuals
//     → manifest.json written: the checkpoint is valid
//     → older ones pruned
//   and when its step has been evaluated, before or after: its accuracy added to the manifest
//
// A checkpoint that cannot be written is told and does not stop a run, unless it is the last.
// Owned by one thread (the coordinator's); writes to the job directory on it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "master/control.pb.h"
#include "master/gather.h"
#include "master/job_directory.h"
#include "master/run_record.h"
#include "telemetry/log.h"
#include "telemetry/status.h"

namespace muster::master {

class CheckpointCommits {
 public:
  struct Options {
    JobDirectory dir{""};
    RunIdentity identity;
    int servers = 1;
    int replicas = 0;             // whose residuals belong to checkpoints (ps/residuals.h)
    int keep = 0;                 // newest checkpoints that stay; 0: five
    int64_t resumed_from = -1;    // step of the checkpoint that the run starts from; -1: none
    Log* log = nullptr;           // borrowed
    RunRecord* record = nullptr;  // borrowed: told of checkpoints that were and were not written
    std::function<int64_t()> now_ms;
  };
  explicit CheckpointCommits(Options options);

  // Of the run's data (RunIdentity): known once a trainer has looked at it.
  void SetDataFingerprint(const std::string& fingerprint) {
    options_.identity.data_fingerprint = fingerprint;
  }
  // What its trainers compute on (RunIdentity): known once they are there.
  void SetDevice(const std::string& device) { options_.identity.device = device; }
  // `server`, or the process of done.replica, has written its part, or could not.
  void OnCut(int server, const CutDone& done);
  // The validation accuracy at `step`, 0 … 1.
  void OnAccuracy(int64_t step, double accuracy);

  // How the checkpoint of clock `clock` came out: OK when it is there, ResourceExhausted with the
  // reason when it is not, nullopt while it is not known.
  std::optional<absl::Status> Outcome(int64_t clock) const;

 private:
  void Commit(const CutGather::Result& cut);
  absl::Status WriteManifest(const CutGather::Result& cut);
  void AddAccuracy(int64_t step);

  Options options_;
  CutGather cuts_;
  int64_t committed_;                      // newest checkpoint; -1: none
  Manifest manifest_;                      // its manifest, when this run committed it
  std::map<int64_t, double> accuracy_;     // by step
  std::map<int64_t, std::string> failed_;  // by clock: why the checkpoint was not written
};

}  // namespace muster::master
