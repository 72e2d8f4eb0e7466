#include "worker/modules/speech_commands/maker/plan.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <utility>

#include "worker/modules/speech_commands/split.h"

namespace muster::worker {
namespace {

// Not en-US-nyc: it says most of the words exactly as en-US does, which would put one voice into
// two splits.
constexpr const char* kAccents[] = {
    "en-US", "en", "en-GB-x-rp", "en-GB-scotland", "en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-029"};

// Not caleb and klatt6, which are klatt again; not fast, zac, … that only change the speed of max;
// no robots, demons and storms.
constexpr const char* kVariants[] = {
    "Alex",    "Alicia",   "Andrea",   "Andy",   "Annie",   "AnxiousAndy", "Denis",   "Diogo",
    "Gene",    "Gene2",    "Henrique", "Hugo",   "Jacky",   "Lee",         "Marco",   "Mario",
    "Michael", "Mike",     "Nguyen",   "Tweaky", "adam",    "anika",       "antonio", "aunty",
    "belinda", "benjamin", "boris",    "croak",  "david",   "ed",          "edward",  "edward2",
    "f1",      "f2",       "f3",       "f4",     "f5",      "grandma",     "grandpa", "gustave",
    "iven",    "iven2",    "iven3",    "iven4",  "john",    "kaukovalta",  "klatt",   "klatt2",
    "klatt3",  "klatt4",   "klatt5",   "linda",  "m1",      "m2",          "m3",      "m4",
    "m5",      "m6",       "m7",       "m8",     "marcelo", "max",         "michel",  "miguel",
    "norbert", "pablo",    "paul",     "pedro",  "quincy",  "rob",         "robert",  "sandro",
    "shelby",  "steph",    "steph2",   "steph3", "travis",  "victor",      "whisper", "whisperf"};

constexpr const char* kFliteVoices[] = {"awb", "kal16", "rms", "slt"};

std::string HexOfSha1(const std::string& text) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return fmt::format("{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
}

}  // namespace

Draws::Draws(uint64_t seed, const char* purpose, uint64_t index)
    : key_(DeriveKey(seed, HashName(purpose))), index_(index) {}

uint32_t Draws::Word() {
  if (next_ % 4 == 0) {
    block_ = Philox(key_, index_, next_ / 4);
  }
  return block_[next_++ % 4];
}

double Draws::Uniform(double low, double high) { return low + (high - low) * Word() * 0x1p-32; }

int64_t Draws::Below(int64_t n) { return static_cast<int64_t>(uint64_t{Word()} * n >> 32); }

// Box and Muller.
double Draws::Normal() {
  const double radius = std::sqrt(-2 * std::log(1 - Uniform(0, 1)));
  return radius * std::cos(2 * std::numbers::pi * Uniform(0, 1));
}

std::vector<Voice> EspeakVoices() {
  std::vector<Voice> voices;
  for (const char* accent : kAccents) {
    for (const char* variant : kVariants) {
      voices.push_back({accent, variant, HexOfSha1(fmt::format("espeak:{}+{}", accent, variant))});
    }
  }
  return voices;
}

std::vector<Voice> FliteVoices() {
  std::vector<Voice> voices;
  for (const char* name : kFliteVoices) {
    std::string speaker;
    for (int salt = 0; speaker.empty() || WhichSplit(speaker, 10, 10) != Split::kTesting; ++salt) {
      speaker = HexOfSha1(fmt::format("flite:{}:{}", name, salt));
    }
    voices.push_back({name, "", speaker});
  }
  return voices;
}

std::vector<ClipPlan> PlanClips(const PlanSettings& settings, const std::vector<Voice>& voices,
                                int64_t count) {
  constexpr int kSlots = 12;
  const int unknown_slots = settings.unknown.empty() ? 0 : kUnknownInTwelve;
  const int64_t wanted_slots = kSlots - unknown_slots;
  const int64_t voice_count = static_cast<int64_t>(voices.size());
  std::vector<ClipPlan> plans;
  std::map<std::pair<std::string, std::string>, int> said;  // (word, speaker): clips so far
  for (int64_t i = 0; i < count; ++i) {
    Draws draws(settings.seed, "speech/clip", i);
    const int64_t round = i / kSlots, slot = i % kSlots;
    ClipPlan plan;
    plan.index = i;
    plan.word =
        slot < wanted_slots
            ? settings.words[(round * wanted_slots + slot) % settings.words.size()]
            : settings
                  .unknown[(round * unknown_slots + slot - wanted_slots) % settings.unknown.size()];
    // Every voice speaks once before one speaks again.
    const PhiloxKey key =
        DeriveKey(settings.seed, HashName("speech/voices"), static_cast<uint64_t>(i / voice_count));
    plan.voice = voices[Permute(voice_count, key, i % voice_count)];
    plan.file = fmt::format("{}/{}_nohash_{}.wav", plan.word, plan.voice.speaker,
                            said[{plan.word, plan.voice.speaker}]++);
    plan.pitch = draws.Uniform(0.2, 0.8);
    plan.range = draws.Uniform(0.2, 0.8);
    plan.speed = draws.Uniform(0.8, 1.25);
    plan.place = draws.Uniform(0.4, 0.6);
    plan.peak = std::pow(10, draws.Uniform(-14, -3) / 20);
    plan.tilt = draws.Uniform(-0.3, 0.3);
    plan.echo = draws.Uniform(0, 0.25);
    plan.floor = std::pow(10, draws.Uniform(-78, -56) / 20);
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace muster::worker
