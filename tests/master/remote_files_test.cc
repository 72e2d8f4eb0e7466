// Roles on hosts that do not have the job's directory bring files from the master's and send theirs
// there.
#include "master/remote_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "master/event_queue.h"
#include "master/file_service.h"
#include "rpc/inproc_transport.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"
#include "tests/master/fake_role.h"

namespace muster::master {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

class RemoteFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& folder : {there_, here_}) fs::create_directories(folder);
  }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << text;
  }
  // As a role whose host has `job_dir`.
  RemoteFiles Files(const std::string& job_dir, const std::string& place_id) {
    RoleOptions options;
    options.transport = transport_.get();
    options.master_address = listener_->address();
    options.self = HelloOf("ps");
    options.job_dir = job_dir;
    JobPlace place;
    place.set_directory(there_);
    place.set_id(place_id);
    return RemoteFiles(options, place);
  }

  const harness::TemporaryFolder temporary_;
  const std::string there_ = temporary_.path() + "/there", here_ = temporary_.path() + "/here";
  const std::string path_ = there_ + "/checkpoints/step-3/ps-0.safetensors";
  const std::string own_ = here_ + "/checkpoints/step-3/ps-0.safetensors";
  FileService service_{there_};
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  const std::unique_ptr<rpc::Listener> listener_ = *ListenForRoles(
      *transport_, "inproc:0", HelloOf("master"), std::make_shared<EventQueue>(), service_);
};

TEST_F(RemoteFilesTest, FilesOfAnySizeArriveWhole) {
  const RemoteFiles files = Files(here_, "another host's");
  std::mt19937 random(7);
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4} << 20, (size_t{9} << 20) + 17}) {
    SCOPED_TRACE(size);
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random());
    Write(own_, text);
    ASSERT_TRUE(files.Send(own_).ok()) << files.Send(own_);
    EXPECT_TRUE(*ReadFile(path_) == text);
    fs::remove(own_);
    ASSERT_TRUE(files.Bring(path_).ok()) << files.Bring(path_);
    EXPECT_TRUE(*ReadFile(own_) == text);
  }
  EXPECT_EQ(files.Here(path_), own_);
  EXPECT_EQ(files.There(own_), path_);
}

TEST_F(RemoteFilesTest, NothingTravelsWhereTheDirectoryIsShared) {
  const RemoteFiles files = Files(there_, FolderId(there_));
  EXPECT_TRUE(files.Send(path_).ok());  // though there is no such file
  EXPECT_TRUE(files.Bring(path_).ok());
  EXPECT_EQ(files.Here(path_), path_);
}

TEST_F(RemoteFilesTest, AFileThatIsNotThereIsNamed) {
  const RemoteFiles files = Files(here_, "another host's");
  EXPECT_THAT(std::string(files.Bring(path_).message()), HasSubstr("step-3/ps-0.safetensors"));
  EXPECT_THAT(std::string(files.Send(own_).message()), HasSubstr(own_));
  EXPECT_FALSE(fs::exists(own_));
}

TEST_F(RemoteFilesTest, WhatIsNotARolesFileIsRefused) {
  const RemoteFiles files = Files(here_, "another host's");
  Write(there_ + "/job.yaml", "jobId: a\n");
  Write(here_ + "/job.yaml", "jobId: b\n");
  Write(temporary_.path() + "/x", "outside");
  for (const std::string path : {"/job.yaml", "/checkpoints/../job.yaml", "/checkpoints/../../x"}) {
    SCOPED_TRACE(path);
    EXPECT_FALSE(files.Send(here_ + path).ok());
    EXPECT_FALSE(files.Bring(there_ + path).ok());
  }
  EXPECT_EQ(*ReadFile(there_ + "/job.yaml"), "jobId: a\n");
  EXPECT_FALSE(files.Send("/etc/hostname").ok());
}

}  // namespace
}  // namespace muster::master
