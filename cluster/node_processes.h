// NodeProcesses: the roles of a run as processes of `launch node` on several hosts.
//
// Open connects and prepares the hosts, or Attach those on which the job runs already; then it is a
// RoleProcesses. Destroying it ends the nodes' keepers and with them what they run, unless it was
// detached. Owned by the launcher's main thread; borrows the links' programs alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/coming_host.h"
#include "cluster/data_send.h"
#include "cluster/host_files.h"
#include "cluster/host_steward.h"
#include "cluster/idle_watch.h"
#include "cluster/node_link.h"
#include "cluster/role_processes.h"

namespace muster::cluster {

class NodeProcesses : public RoleProcesses {
 public:
  struct Options {
    std::string build_id;    // the nodes must be of
    std::string job_folder;  // on every host; the first one's is locked
    std::string job_dir;     // on this machine: kept like the first host's
    std::vector<size_t> host_of_role;
    std::vector<std::string> role_names;  // "worker-2"
    std::vector<std::string> log_paths;   // by role, on this machine
    std::string launcher;                 // who this is, for others
    absl::Status can_detach;              // why not; OK when they go on without a launcher
    // Told first for how long they will; they do not when it fails. May be null.
    std::function<absl::Status(int64_t until_in_ms)> before_leaving = nullptr;
    bool rented = false;                  // the hosts are given back after the job
    bool kept = false;                    // a keeper of the job begins with each host
    IdleLimit idle;                       // of the job
    bool stay = false;                    // and do so when it is gone without a word
    bool here = false;                    // the one host is this machine, its folder is job_dir
    int64_t max_running_ms = 0;           // of the job
    int64_t connect_ms = 20'000;          // for all hosts to say who they are, copying not counted
    bool without_workers = false;         // do without hosts of workers alone that are not there
    HostSteward* steward = nullptr;       // who is called from Collect; null: nobody
    NodeLink::Bundle bundle;              // for hosts that come later
    std::vector<std::string> notices_of;  // by host, as RunHost has it; may be shorter
    int64_t max_clock_skew_ms = 30'000;
  };

  NodeProcesses(Options options, std::vector<std::unique_ptr<NodeLink>> hosts)
      : options_(std::move(options)),
        hosts_(std::move(hosts)),
        presence_(hosts_.size(), Presence::kHere),
        missing_(Missing()),
        stay_(options_.stay),
        files_(options_.job_dir, hosts_, options_.connect_ms,
               [this](const std::function<bool()>& done, int64_t timeout_ms, const char* what) {
                 return Await(done, timeout_ms, what);
               }) {}
  ~NodeProcesses() override;

  // Waits until every host is connected, has this build and the job's folder. Fails with one line
  // for each host that does not.
  absl::Status Open() { return Connect(/*attach=*/false); }
  // The same, to follow what runs there, where something does on all hosts; those of workers alone
  // need not have anything that are known to be gone, or (without_workers) in any case. follows()
  // tells; else nothing is touched.
  absl::Status Attach();
  bool follows() const { return follows_; }
  // Whether Open or Attach failed because of hosts alone that were not reached, and that
  // without_workers does without.
  bool LacksWorkersAlone() const { return lacks_workers_alone_; }
  bool runs_master() const { return runs_on_.contains(options_.host_of_role[0]); }
  // Nothing there ends with this any more.
  void Abandon() { owns_ = false; }
  const NodeHello& hello(size_t host) const { return *hosts_[host]->hello(); }
  // Absolute. PRECONDITION: Open succeeded.
  const std::string& job_folder(size_t host) const { return opened_[host]; }
  // How the job's data begins to go to a host that comes later; without, it has what it needs.
  using SendData = std::function<absl::StatusOr<std::unique_ptr<DataSending>>(const RunHost& host)>;
  void SendDataWith(SendData send_data) { send_data_ = std::move(send_data); }
  // Brings what is newer there to this machine, which may have lost its launcher in an earlier run.
  absl::Status Pull();
  // Brings the logs of linked hosts whose roles have ended, where they are longer than those here.
  absl::Status PullLogs();
  // Brings what is newer here there.
  absl::Status Push();
  // One turn of waiting for something else: a launcher that says nothing is given up by its hosts.
  // Fails when a host is lost.
  absl::Status KeepAlive();

  size_t machines() const override { return hosts_.size(); }
  void Start(size_t role, const RoleCommand& command) override;
  void Signal(size_t role, int signal) override;
  void Kill(size_t role) override;
  void Watch(std::vector<pollfd>* fds) const override;
  void Collect(Listener& listener) override;
  absl::Status CanDetach() const override;
  absl::Status Detach(const LeaveTerms& terms) override;
  absl::Status Gather() override;

 private:
  enum class Presence {
    kHere,
    kAway,    // looked for, or done without
    kComing,  // connected, or about to be; it does not hold the job yet
  };

  std::set<size_t> Missing() const;
  absl::Status Connect(bool attach);
  // Whether the others of the job may go on without what ran there.
  bool HasWorkersAlone(size_t host) const;
  bool CanDoWithout(size_t host, const Listener& listener) const;
  bool IsMissing(size_t host) const { return missing_.contains(host); }
  void SendOpen(size_t host, bool attach, const std::string& notices_of);
  // Why a host that has said hello will not do; OK when it does.
  absl::Status CheckFit(size_t host) const;
  bool Replaces(size_t host) const {
    return options_.steward != nullptr && options_.steward->Replaces(host);
  }
  // What the steward has to say, and hosts that come.
  void HearSteward(Listener& listener);
  void TakeIn(size_t host, RunHost way, Listener& listener);
  void LookAtComing(size_t host, Listener& listener);
  void GoAway(size_t host, const std::string& why, Listener& listener);
  void RoleAway(size_t role, const std::string& why, Listener& listener);
  // Hosts to which there is no way any more: replaced, done without, or missed.
  void TellOfLost(Listener& listener);
  // Has the logs come from where those here end.
  absl::Status FollowLogs();
  // Pumps all links until `done`, or a link or the deadline fails.
  absl::Status Await(const std::function<bool()>& done, int64_t timeout_ms, const char* what);
  void OnEvent(size_t host, const NodeEvent& event);
  void AppendLog(const LogPart& part);
  void PingAll();

  const Options options_;
  std::vector<std::unique_ptr<NodeLink>> hosts_;
  std::vector<Presence> presence_;                    // by host
  std::map<size_t, ComingHost> coming_;               // by host, those that have not refused
  const std::set<size_t> missing_;                    // hosts that were gone from the beginning
  std::set<size_t> ending_;                           // hosts that are taken back soon
  std::vector<std::string> opened_;                   // by host: the job's folder
  std::string ends_with_login_;                       // a host as JobOpened has it; "": none
  std::vector<std::pair<size_t, NodeEvent>> events_;  // host and event, for Collect
  std::vector<std::string> errors_;                   // while none is collected
  std::set<size_t> running_;                          // roles
  std::set<size_t> lost_;                             // hosts whose end has been told
  int64_t pinged_ms_ = 0;
  size_t left_ = 0;           // hosts that go on by themselves
  std::set<size_t> runs_on_;  // hosts where something of the job ran when it was attached to
  bool follows_ = false, lacks_workers_alone_ = false;
  bool owns_ = false;  // what runs there ends with this
  bool stay_ = false;
  SendData send_data_;
  HostFiles files_;
};

}  // namespace muster::cluster
