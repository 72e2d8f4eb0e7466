// Frames between launcher and node, whole, cut anywhere, and hostile.
#include "cluster/node_wire.h"

#include <gtest/gtest.h>

#include <random>

#include "cluster/node.pb.h"

namespace muster::cluster {
namespace {

std::vector<std::string> Take(FrameReader& reader, std::string_view bytes, bool* ok) {
  std::vector<std::string> frames;
  *ok = reader
            .Take(bytes,
                  [&](std::string_view frame) {
                    frames.emplace_back(frame);
                    return absl::OkStatus();
                  })
            .ok();
  return frames;
}

TEST(NodeWire, FramesArriveHoweverTheyAreCut) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> sent;
    std::string bytes;
    for (unsigned i = 0; i < 1 + random() % 5; ++i) {
      NodeEvent event;
      event.mutable_log()->set_text(std::string(random() % 5000, 'x'));
      bytes += EncodeFrame(event);
      sent.push_back(event.SerializeAsString());
    }
    FrameReader reader;
    std::vector<std::string> got;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = std::min<size_t>(1 + random() % 3000, bytes.size() - at);
      bool ok = false;
      for (std::string& frame : Take(reader, std::string_view(bytes).substr(at, size), &ok)) {
        got.push_back(std::move(frame));
      }
      ASSERT_TRUE(ok);
      at += size;
    }
    EXPECT_EQ(got, sent);
  }
}

TEST(NodeWire, ALengthThatNobodySendsIsRefusedBeforeItIsWaitedFor) {
  FrameReader reader;
  bool ok = true;
  EXPECT_TRUE(Take(reader, "\xff\xff\xff\x7f", &ok).empty());
  EXPECT_FALSE(ok);
}

TEST(NodeWire, AnyBytesAreFramesOrAnError) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 200, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % (round % 2 == 0 ? 256 : 12));
    FrameReader reader;
    bool ok = false;
    for (const std::string& frame : Take(reader, bytes, &ok)) {
      NodeRequest request;
      (void)request.ParseFromString(frame);
    }
  }
}

}  // namespace
}  // namespace muster::cluster
