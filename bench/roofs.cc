#include "bench/roofs.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "bench/load.h"
#include "bench/raw_stream.h"
#include "bench/raw_tcp.h"
#include "bench/timing.h"
#include "kernels/device.h"
#include "kernels/optimizer_math.h"
#include "ps/optimizer.h"
#include "telemetry/check.h"

namespace muster::bench {
namespace {

// Of each array. Two of them, or four, are beyond any cache.
constexpr int64_t kRoofElements = (512 << 20) / 4;
constexpr size_t kPoolBytes = 1 << 30;  // that is sent

struct MomentumArrays {
  std::vector<float> g = std::vector<float>(kRoofElements, 1.0F);
  std::vector<float> w = g, next = g, slot = g;
};

}  // namespace

double RateOf(double seconds, const std::function<void()>& once) {
  int64_t n = 0;
  const double begin = Now();
  do {
    once();
    ++n;
  } while (Now() - begin < seconds);
  return static_cast<double>(n) / (Now() - begin);
}

std::vector<double> TimesOf(double seconds, int pause_us, const std::function<void()>& once) {
  std::vector<double> times;
  const double begin = Now();
  do {
    if (pause_us > 0) usleep(static_cast<useconds_t>(pause_us));
    times.push_back(Seconds(once) * 1e6);
  } while (Now() - begin < seconds);
  return times;
}
double TimeOf(double seconds, int pause_us, const std::function<void()>& once) {
  return Median(TimesOf(seconds, pause_us, once));
}

Roof MemcpyRoof() {
  auto dst = std::make_shared<std::vector<float>>(kRoofElements, 1.0F);
  auto src = std::make_shared<std::vector<float>>(kRoofElements, 2.0F);
  return [=](double seconds) {
    constexpr size_t kBytes = kRoofElements * sizeof(float);
    return RateOf(seconds, [&] { std::memcpy(dst->data(), src->data(), kBytes); }) * kBytes / 1e9;
  };
}

Roof SumRoof() {
  auto dst = std::make_shared<std::vector<float>>(kRoofElements, 1.0F);
  auto src = std::make_shared<std::vector<float>>(kRoofElements, 2.0F);
  return [=](double seconds) {
    return RateOf(seconds, [&] { CHECK(AddInto(dst->data(), src->data(), kRoofElements)); }) *
           kRoofElements * sizeof(float) / 1e9;
  };
}

Roof MomentumRoof() {
  auto arrays = std::make_shared<MomentumArrays>();
  std::shared_ptr<const ps::Optimizer> optimizer = Must(ps::MakeOptimizer("momentum", {}));
  const std::shared_ptr<Device> cpu = MakeCpuDevice(1);
  return [=](double seconds) {
    const auto stream = cpu->MakeStream();
    ps::StepInfo info;
    info.learning_rate = kRate;
    info.scale = 1;
    auto& [g, w, next, slot] = *arrays;
    const auto update = [&] {
      for (int64_t at = 0; at < kRoofElements; at += kQuantum) {
        const std::span<float> slots[] = {std::span(slot).subspan(at, kQuantum)};
        optimizer->Apply(*stream, info, std::span(g).subspan(at, kQuantum),
                         std::span(w).subspan(at, kQuantum), std::span(next).subspan(at, kQuantum),
                         slots);
      }
      std::swap(w, next);
    };
    return RateOf(seconds, update) * kRoofElements * sizeof(float) / 1e9;
  };
}

Roof TcpRoof(int port, const rpc::Identity& identity) {
  auto pusher = std::make_shared<TcpPusher>("127.0.0.1", port, identity);
  auto pool = std::make_shared<Pool>(kPoolBytes);
  return [=](double seconds) {
    constexpr size_t kSlice = 4 << 20;
    return pusher->Run(kSlice, /*window=*/4, seconds, *pool) * kSlice / 1e9;
  };
}

Roof StreamRoof(const std::string& address, const rpc::Identity& identity) {
  auto pusher = std::make_shared<StreamPusher>(address, identity);
  auto pool = std::make_shared<Pool>(kPoolBytes);
  return [=](double seconds) {
    constexpr size_t kSlice = 4 << 20;
    return pusher->Run(kSlice, /*window=*/4, seconds, *pool) * kSlice / 1e9;
  };
}

namespace {

// GB/s, in TLS's largest records.
double AesRate(double seconds, std::span<const std::byte> plain) {
  constexpr int kRecordBytes = 16 << 10;
  const unsigned char key[32] = {1}, iv[12] = {2};
  std::vector<unsigned char> out(kRecordBytes);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  size_t at = 0;
  const double records = RateOf(seconds, [&] {
    int n = 0;
    CHECK(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, key, iv) == 1);
    CHECK(EVP_EncryptUpdate(context, out.data(), &n,
                            reinterpret_cast<const unsigned char*>(plain.data()) + at,
                            kRecordBytes) == 1);
    at = (at + kRecordBytes) % (plain.size() - kRecordBytes);
  });
  EVP_CIPHER_CTX_free(context);
  return records * kRecordBytes / 1e9;
}

}  // namespace

Roof TlsRoof(const std::string& address) {
  const Roof stream = StreamRoof(address);
  auto plain = std::make_shared<std::vector<std::byte>>(size_t{1} << 28, std::byte{3});
  return [=](double seconds) { return 1 / (1 / stream(seconds) + 1 / AesRate(seconds, *plain)); };
}

Roof FutexRoof(const std::shared_ptr<FutexPair>& pair) {
  return [=](double seconds) {
    const OnCore core(/*first=*/true);
    return TimeOf(seconds, kAsleep_us, [&] { pair->RoundTrip(); });
  };
}

}  // namespace muster::bench
