// Checkpoint parts: round trips over any number of servers, and every damage a clear error.
#include "ps/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/harness/temporary_folder.h"

namespace muster::ps {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::vector<std::string> kSlots = {"adam_m", "adam_v"};

// A value for each (parameter, slot, element).
float Value(ParamId param, int slot, int64_t i) {
  return static_cast<float>(param * 1'000'000 + slot * 100'000 + i);
}

std::vector<float> Values(const ParamTable& table, const ParamSlice& slice, int slot) {
  std::vector<float> out(static_cast<size_t>(slice.size), 0.0f);
  ForEachPart(table, slice, [&](const ParamSlice& part, int64_t at) {
    for (int64_t i = 0; i < part.size; ++i) {
      out[static_cast<size_t>(at + i)] = Value(part.param, slot, part.begin + i);
    }
  });
  return out;
}

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    table_ = *ParamTable::Make({{.name = "conv/w", .shape = {4, 5, 100}},
                                {.name = "conv/b", .shape = {3}},
                                {.name = "dense.w", .shape = {200, 100}},
                                {.name = "scalar", .shape = {}}});
  }

  std::vector<std::string> Save(int servers, int64_t clock = 12) {
    const Partition partition = MakePartition(table_, servers);
    std::vector<std::string> files;
    for (int server = 0; server < servers; ++server) {
      std::vector<SavedSlice> saved;
      for (size_t id = 0; id < partition.slices.size(); ++id) {
        if (partition.server[id] != server) continue;
        const ParamSlice& slice = partition.slices[id];
        saved.push_back({static_cast<int32_t>(id),
                         clock + static_cast<int64_t>(id),
                         Values(table_, slice, 0),
                         {Values(table_, slice, 1), Values(table_, slice, 2)}});
      }
      files.push_back(CheckpointPartPath(directory_, server));
      const absl::Status status =
          WriteCheckpointPart(files.back(), table_, partition, kSlots, clock, saved);
      EXPECT_TRUE(status.ok()) << status;
    }
    return files;
  }

  // A single part, changed on disk by `change(header JSON, data)`.
  std::string SaveChanged(const std::function<void(nlohmann::json&, std::string&)>& change) {
    const std::string path = Save(1)[0];
    const std::string text = ReadText(path);
    uint64_t length;
    std::memcpy(&length, text.data(), sizeof(length));
    auto header = nlohmann::json::parse(text.substr(8, length));
    std::string data = text.substr(8 + length);
    change(header, data);
    const std::string json = header.dump();
    length = json.size();
    WriteText(path, std::string(reinterpret_cast<const char*>(&length), 8) + json + data);
    return path;
  }

  std::string OpenError(const std::string& path) {
    const auto params = ReadFullParams({path}, table_);
    EXPECT_FALSE(params.ok());
    return std::string(params.status().message());
  }

  ParamTable table_;
  const harness::TemporaryFolder temporary_;
  const std::string directory_ = temporary_.path();
};

TEST_F(CheckpointTest, AnyNumberOfPartsBecomesAnyNumberOfSlices) {
  for (int from = 1; from <= 4; ++from) {
    const auto checkpoint = Checkpoint::Open(Save(from), table_);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->clock(), 12);
    for (int to = 1; to <= 4; ++to) {
      const Partition partition = MakePartition(table_, to);
      for (const ParamSlice& slice : partition.slices) {
        for (int slot = 0; slot <= 2; ++slot) {
          std::vector<float> out(static_cast<size_t>(slice.size));
          const absl::Status status =
              checkpoint->Read(slice, slot == 0 ? "" : kSlots[static_cast<size_t>(slot - 1)], out);
          ASSERT_TRUE(status.ok()) << status;
          ASSERT_EQ(out, Values(table_, slice, slot)) << from << " to " << to;
        }
      }
    }
  }
}

TEST_F(CheckpointTest, VersionsStayWithTheirSlices) {
  const Partition partition = MakePartition(table_, 2);
  const auto checkpoint = Checkpoint::Open(Save(2), table_);
  ASSERT_TRUE(checkpoint.ok());
  for (size_t id = 0; id < partition.slices.size(); ++id) {
    EXPECT_EQ(checkpoint->Version(partition.slices[id]), 12 + static_cast<int64_t>(id));
  }
  const std::vector<int32_t>& dense = partition.of_param[2];
  EXPECT_EQ(checkpoint->Version({2, 0, 20000}), 12 + dense.back()) << "the most of what it covers";
}

TEST_F(CheckpointTest, FullParametersLieInTheArena) {
  const auto arena = ReadFullParams(Save(3), table_);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_EQ(static_cast<int64_t>(arena->size()), table_.arena_size());
  for (ParamId param = 0; param < 4; ++param) {
    const int64_t size = table_.specs()[static_cast<size_t>(param)].size();
    for (int64_t i = 0; i < size; ++i) {
      ASSERT_EQ((*arena)[static_cast<size_t>(table_.offset(param) + i)], Value(param, 0, i));
    }
  }
}

TEST_F(CheckpointTest, IsASafetensorsFileThatOthersRead) {
  const std::string text = ReadText(Save(1)[0]);
  uint64_t length;
  std::memcpy(&length, text.data(), sizeof(length));
  EXPECT_EQ((8 + length) % 8, 0u);
  const auto header = nlohmann::json::parse(text.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["clock"], "12");
  EXPECT_EQ(header["conv/b"]["dtype"], "F32");
  EXPECT_EQ(header["conv/b"]["shape"], nlohmann::json({3}));
  EXPECT_EQ(header["scalar"]["shape"], nlohmann::json::array());
  EXPECT_TRUE(header.contains("dense.w[0:16384]"));
  EXPECT_TRUE(header.contains("dense.w.adam_m[0:16384]"));
  const int64_t begin = header["conv/b"]["data_offsets"][0];
  float first;
  std::memcpy(&first, text.data() + 8 + length + begin, sizeof(first));
  EXPECT_EQ(first, Value(1, 0, 0));
}

TEST_F(CheckpointTest, NonFiniteWeightsAreDataLikeAnyOther) {
  const Partition partition = MakePartition(table_, 1);
  std::vector<SavedSlice> saved;
  for (size_t id = 0; id < partition.slices.size(); ++id) {
    saved.push_back({static_cast<int32_t>(id),
                     1,
                     std::vector<float>(static_cast<size_t>(partition.slices[id].size),
                                        std::numeric_limits<float>::quiet_NaN()),
                     {}});
  }
  const std::string path = CheckpointPartPath(directory_, 0);
  ASSERT_TRUE(WriteCheckpointPart(path, table_, partition, {}, 1, saved).ok());
  EXPECT_TRUE(ReadFullParams({path}, table_).ok());
}

TEST_F(CheckpointTest, EveryTruncationIsNoticed) {
  const std::string path = Save(1)[0];
  const std::string text = ReadText(path);
  for (size_t keep = 0; keep < text.size(); keep += keep < 64 ? 1 : 997) {
    WriteText(path, text.substr(0, keep));
    EXPECT_THAT(OpenError(path), HasSubstr(path)) << keep;
  }
  WriteText(path, text.substr(0, text.size() - 1));
  EXPECT_THAT(OpenError(path), HasSubstr("truncated"));
  WriteText(path, text + "x");
  EXPECT_THAT(OpenError(path), HasSubstr("too long"));
}

TEST_F(CheckpointTest, AFlippedBitInTheDataIsNoticed) {
  const std::string path = SaveChanged([](auto&, std::string& data) { data[4321] ^= 4; });
  EXPECT_THAT(OpenError(path), AllOf(HasSubstr(path), HasSubstr("is damaged: its CRC-32C is")));
}

TEST_F(CheckpointTest, GarbageInsteadOfAFile) {
  const std::string path = directory_ + "/garbage";
  WriteText(path, "");
  EXPECT_THAT(OpenError(path), HasSubstr("too few for a header"));
  WriteText(path, std::string(1000, '\xff'));
  EXPECT_THAT(OpenError(path), HasSubstr("header is said to have 18446744073709551615 bytes"));
  WriteText(path, std::string("\x10\0\0\0\0\0\0\0", 8) + std::string(16, '{'));
  EXPECT_THAT(OpenError(path), HasSubstr("not a JSON object"));
  WriteText(path, std::string("\x02\0\0\0\0\0\0\0", 8) + "[]");
  EXPECT_THAT(OpenError(path), HasSubstr("not a JSON object"));
  EXPECT_THAT(OpenError(directory_), HasSubstr("not a regular file"));
  EXPECT_THAT(OpenError(directory_ + "/absent"), HasSubstr("No such file"));
}

TEST_F(CheckpointTest, HostileHeadersAreRefused) {
  using Json = nlohmann::json;
  struct Row {
    const char* what;
    std::function<void(Json&)> change;
    const char* error;
  };
  const Row rows[] = {
      {"no object", [](Json& h) { h["conv/b"] = 3; }, "its entry is not an object"},
      {"dtype", [](Json& h) { h["conv/b"]["dtype"] = "F16"; }, "its dtype is not F32"},
      {"no shape", [](Json& h) { h["conv/b"].erase("shape"); }, "it has no shape"},
      {"negative shape", [](Json& h) { h["conv/b"]["shape"] = {-3}; }, "its shape is no shape"},
      {"text shape", [](Json& h) { h["conv/b"]["shape"] = {"3"}; }, "its shape is no shape"},
      {"overflowing shape",
       [](Json& h) {
         h["conv/b"]["shape"] = {1ll << 40, 1ll << 40, 1ll << 40};
       },
       "its shape is too large"},
      {"huge dimension", [](Json& h) { h["conv/b"]["shape"] = {~0ull}; }, "its shape is no shape"},
      {"beyond the end",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {0, 1ll << 60};
       },
       "do not lie within the file"},
      {"negative offset",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {-12, 0};
       },
       "do not lie within the file"},
      {"three offsets",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {0, 4, 8};
       },
       "do not lie within the file"},
      {"offset of 2^64 - 1",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {~0ull, 11};
       },
       "do not lie within the file"},
      {"backward",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {12, 0};
       },
       "its offsets do not fit its shape"},
      {"shape and offsets", [](Json& h) { h["conv/b"]["shape"] = {4}; },
       "its offsets do not fit its shape"},
      {"overlap",
       [](Json& h) {
         h["conv/b"]["data_offsets"] = {0, 12};
       },
       "its tensors overlap"},
      {"gap", [](Json& h) { h.erase("conv/b"); }, "its tensors leave a gap"},
      {"metadata", [](Json& h) { h["__metadata__"] = 1; }, "its metadata is not an object"},
      {"metadata value", [](Json& h) { h["__metadata__"]["clock"] = 1; }, "is no string"},
      {"no clock", [](Json& h) { h["__metadata__"].erase("clock"); }, "has no number 'clock'"},
      {"clock", [](Json& h) { h["__metadata__"]["clock"] = "1e3"; }, "has no number 'clock'"},
      {"no version", [](Json& h) { h["__metadata__"].erase("version.conv/b"); },
       "has no number 'version.conv/b'"},
      {"model", [](Json& h) { h["__metadata__"]["model"] = "0"; }, "it is of another model"},
      {"unknown tensor",
       [](Json& h) {
         h["conv/c"] = h["conv/b"];
         h.erase("conv/b");
       },
       "the model has no such parameter"},
      {"range beyond the parameter",
       [](Json& h) {
         h["conv/b[1:4]"] = h["conv/b"];
         h.erase("conv/b");
       },
       "has only 3 elements"},
      {"range and size",
       [](Json& h) {
         h["conv/b[0:2]"] = h["conv/b"];
         h.erase("conv/b");
       },
       "another shape"},
      {"range that is none",
       [](Json& h) {
         h["conv/b[0:]"] = h["conv/b"];
         h.erase("conv/b");
       },
       "no slice of a parameter"},
      {"transposed",
       [](Json& h) {
         h["conv/b"]["shape"] = {1, 3};
       },
       "another shape"},
  };
  for (const Row& row : rows) {
    const std::string path = SaveChanged([&](Json& header, std::string&) { row.change(header); });
    EXPECT_THAT(OpenError(path), AllOf(HasSubstr(path), HasSubstr(row.error))) << row.what;
  }
}

TEST_F(CheckpointTest, WhatIsMissingIsNamed) {
  std::vector<std::string> files = Save(2);
  files.pop_back();
  const auto missing = ReadFullParams(files, table_);
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(std::string(missing.status().message()),
              AllOf(HasSubstr("lacks elements"), HasSubstr(files[0])));

  const auto checkpoint = Checkpoint::Open(Save(1), table_);
  ASSERT_TRUE(checkpoint.ok());
  std::vector<float> out(3);
  EXPECT_EQ(checkpoint->Read({1, 0, 3}, "momentum", out).message(),
            "the checkpoint lacks elements 0 to 3 of 'conv/b', slot 'momentum': a part is missing "
            "(1 parts given, the first is " +
                CheckpointPartPath(directory_, 0) + ")");
  EXPECT_FALSE(ReadFullParams({}, table_).ok());
}

TEST_F(CheckpointTest, PartsOfTwoCheckpointsDoNotMix) {
  std::vector<std::string> files = Save(2, 12);
  const std::string other = directory_ + "/other.safetensors";
  std::filesystem::rename(files[1], other);
  Save(2, 13);
  EXPECT_THAT(std::string(Checkpoint::Open({files[0], other}, table_).status().message()),
              HasSubstr("it is of clock 12, another part is of 13"));
  EXPECT_THAT(std::string(Checkpoint::Open({files[0], files[0]}, table_).status().message()),
              HasSubstr("overlap"));
}

TEST_F(CheckpointTest, ADiskThatFillsUpLeavesTheOldPart) {
  const std::string path = Save(1, 12)[0];
  const Partition partition = MakePartition(table_, 1);
  std::vector<SavedSlice> saved = {{0, 1, Values(table_, partition.slices[0], 0), {}}};
  // A limit on the file's size fails writes as a full disk does.
  struct rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit tight = {1024, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  const absl::Status status = WriteCheckpointPart(path, table_, partition, kSlots, 99, saved);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("cannot write"), HasSubstr(path)));
  const auto old = Checkpoint::Open({path}, table_);
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(old->clock(), 12);
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_))
    ++files;
  EXPECT_EQ(files, 1) << "the temporary file stayed";
}

TEST_F(CheckpointTest, ParameterNamesThatWouldCollideAreRefused) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {2}}, {.name = "a.momentum", .shape = {2}}});
  const Partition partition = MakePartition(table, 1);
  const std::vector<SavedSlice> saved = {{0, 1, {1, 2}, {{3, 4}}}, {1, 1, {1, 2}, {{3, 4}}}};
  const absl::Status status = WriteCheckpointPart(CheckpointPartPath(directory_, 0), table,
                                                  partition, {"momentum"}, 1, saved);
  EXPECT_THAT(std::string(status.message()), HasSubstr("two tensors would be named alike"));
}

}  // namespace
}  // namespace muster::ps
