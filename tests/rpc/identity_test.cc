// Certificates of a job, and streams between processes that have them.
#include "rpc/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <future>

#include "rpc/grpc_transport.h"

namespace muster::rpc {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kDay = 86'400;

int64_t Now() { return std::time(nullptr); }

Identity Issue(const std::string& job, int64_t from_s, int64_t until_s) {
  return *JobAuthority::Make(job, from_s, until_s)->Issue("worker-2");
}

TEST(Identity, ACertificateOfTheJobIsAcceptedInItsTime) {
  const Identity identity = Issue("a", Now(), Now() + kDay);
  const auto check = [&](int64_t now_s) {
    return std::string(CheckCertificate(identity.certificate, identity.authority, now_s).message());
  };
  EXPECT_EQ(check(Now()), "");
  EXPECT_EQ(check(Now() - 1800), "") << "clocks differ";
  EXPECT_THAT(check(Now() - kDay), HasSubstr("not valid yet"));
  EXPECT_EQ(check(Now() + 2 * kDay), "its certificate has expired");
}

TEST(Identity, OthersAreNot) {
  const Identity mine = Issue("a", Now(), Now() + kDay);
  // The same name makes no other authority this one.
  const Identity other = Issue("a", Now(), Now() + kDay);
  const auto check = [&](const std::string& certificate) {
    return std::string(CheckCertificate(certificate, mine.authority, Now()).message());
  };
  EXPECT_THAT(check(other.certificate), HasSubstr("not of this job"));
  EXPECT_EQ(check(""), "it shows no certificate");
  EXPECT_EQ(check("-----BEGIN CERTIFICATE-----\nxyz\n"), "its certificate cannot be read");
  std::string damaged = mine.certificate;
  damaged[300] = damaged[300] == 'A' ? 'B' : 'A';
  EXPECT_NE(check(damaged), "");
}

TEST(Identity, TravelsAsOneText) {
  const Identity identity = Issue("a", Now(), Now() + kDay);
  EXPECT_EQ(*ParseIdentity(EncodeIdentity(identity)), identity);
  EXPECT_TRUE(ParseIdentity("")->empty());
  for (const std::string& text : {std::string("x"), identity.certificate + identity.key}) {
    const absl::Status status = ParseIdentity(text).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("BEGIN"))) << "a secret";
  }
}

// Sends back what it hears.
class Echo : public StreamHandler {
 public:
  explicit Echo(std::shared_ptr<Stream> stream) : stream_(std::move(stream)) {}
  void OnMessage(Message message) override { (void)stream_->Send(std::move(message)).ok(); }
  void OnClosed(absl::Status) override { stream_.reset(); }

 private:
  std::shared_ptr<Stream> stream_;
};

class Hearer : public StreamHandler {
 public:
  explicit Hearer(std::promise<uint64_t>* bytes) : bytes_(bytes) {}
  void OnMessage(Message message) override { bytes_->set_value(message.header.payload_bytes); }
  void OnClosed(absl::Status) override {}

 private:
  std::promise<uint64_t>* const bytes_;
};

class EncryptedTest : public ::testing::Test {
 protected:
  static Hello HelloOf(const std::string& role) {
    Hello hello;
    hello.protocol_version = kProtocolVersion;
    hello.build_id = "b";
    hello.job_token = "t";
    hello.service = "control";
    hello.role = role;
    return hello;
  }
  std::unique_ptr<Transport> Make(const Identity& identity) {
    GrpcOptions options;
    options.identity = identity;
    return *MakeGrpcTransport(std::move(options), *log_);
  }
  // Connects as a process with `identity` and gives the reason why it was refused; "" when it was
  // not.
  std::string Connect(const Identity& identity) {
    const auto transport = Make(identity);
    std::promise<uint64_t> heard;
    const auto stream = transport->Connect(listener_->address(), HelloOf("worker"),
                                           std::make_unique<Hearer>(&heard), 1000);
    if (!stream.ok()) return std::string(stream.status().message());
    Message message;
    message.payload = Payload::Own(std::string(3 << 20, 'x'));
    EXPECT_TRUE((*stream)->Send(std::move(message)).ok());
    EXPECT_EQ(heard.get_future().get(), uint64_t{3} << 20);
    (*stream)->Close();
    return "";
  }

  const std::unique_ptr<Log> log_ = Log::Discard();
  const JobAuthority authority_ = *JobAuthority::Make("a", Now(), Now() + kDay);
  const std::unique_ptr<Transport> transport_ = Make(*authority_.Issue("master-0"));
  const std::unique_ptr<Listener> listener_ = *transport_->Listen(
      "127.0.0.1:0", HelloOf("master"),
      [](const Hello&, std::shared_ptr<Stream> stream) { return std::make_unique<Echo>(stream); });
};

TEST_F(EncryptedTest, ProcessesOfTheJobTalk) {
  EXPECT_EQ(Connect(*authority_.Issue("worker-0")), "");
  EXPECT_EQ(listener_->counters().accepted, 1);
}

TEST_F(EncryptedTest, AStrangerIsRefusedAndCounted) {
  // Trusts the master, and has nothing to show.
  const Identity mine = *authority_.Issue("worker-0");
  Identity other = Issue("a", Now(), Now() + kDay);
  other.authority = mine.authority;
  EXPECT_THAT(Connect(other), HasSubstr("not of this job"));
  EXPECT_EQ(listener_->counters().refused, 1);
  EXPECT_EQ(listener_->counters().accepted, 0);
}

TEST_F(EncryptedTest, AnExpiredCertificateIsRefusedAndCounted) {
  // As if made two days ago for one day; and by this authority, were it not for its time.
  const JobAuthority old = *JobAuthority::Make("a", Now() - 2 * kDay, Now() - kDay);
  const auto transport = Make(*old.Issue("master-0"));
  const auto listener = *transport->Listen(
      "127.0.0.1:0", HelloOf("master"),
      [](const Hello&, std::shared_ptr<Stream> stream) { return std::make_unique<Echo>(stream); });
  Identity late = *old.Issue("worker-0");
  EXPECT_EQ(CheckCertificate(late.certificate, late.authority, Now()).message(),
            "its certificate has expired");
  late.authority = authority_.Issue("x")->authority;
  EXPECT_NE(Connect(late), "");
  EXPECT_EQ(listener_->counters().refused, 1);
}

TEST_F(EncryptedTest, WhoDoesNotEncryptGetsNothing) {
  EXPECT_NE(Connect(Identity()), "");
  EXPECT_EQ(listener_->counters().accepted, 0);
}

TEST_F(EncryptedTest, AMasterOfAnotherJobIsNotTalkedTo) {
  EXPECT_NE(Connect(Issue("a", Now(), Now() + kDay)), "");
  EXPECT_EQ(listener_->counters().accepted, 0);
}

}  // namespace
}  // namespace muster::rpc
