#include "cluster/display.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace muster::cluster {
namespace {

using master::RunState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

DisplayState Training() {
  DisplayState state;
  state.job_id = "speech_20261121";
  state.state = RunState::kRunning;
  state.stage = "training";
  state.step = 4500;
  state.total_steps = 18'000;
  state.loss = 1.23456;
  state.validation_accuracy = 0.8512;
  state.samples_per_second = 1467.4;
  state.eta_ms = 723'000;
  state.elapsed_ms = 245'000;
  state.roles = state.ready_roles = 4;
  return state;
}

size_t Columns(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

TEST(RenderPlainTest, WhatIsRentedShowsItsCostSoFarByTheHourAndInAll) {
  DisplayState state = Training();
  EXPECT_EQ(RenderPlain(state).find('$'), std::string::npos) << "nothing is rented";
  state.cost = 0.5;
  state.cost_per_hour = 5;
  EXPECT_TRUE(RenderPlain(state).ends_with("$0.50 at $5.00/h, $1.50 in all")) << RenderPlain(state);
  state.eta_ms.reset();
  EXPECT_TRUE(RenderPlain(state).ends_with("$0.50 at $5.00/h")) << RenderPlain(state);
}

TEST(RenderLiveTest, ShowsStageStepsNumbersAndTimeLeft) {
  EXPECT_THAT(RenderLive(Training(), 60),
              ElementsAre("speech_20261121  RUNNING  training  4 min 05 s",
                          "████████░░░░░░░░░░░░░░░░░░░░░░░░░░  step 4,500/18,000 (25 %)",
                          "loss 1.2346   validation 85.1 %   1,467 samples/s   ETA 12 …"));
}

TEST(RenderLiveTest, BeforeTheFirstStepThereAreNoNumbers) {
  DisplayState state;
  state.job_id = "job";
  state.state = RunState::kPreparing;
  state.stage = "starting";
  state.roles = 13;
  state.ready_roles = 4;
  EXPECT_THAT(RenderLive(state, 80),
              ElementsAre("job  PREPARING  starting  4 of 13 roles ready  0 s"));
}

TEST(RenderLiveTest, EachReplicaThatLagsHasALine) {
  DisplayState state = Training();
  state.lagging = {{"worker", 3, 2, 4200}, {"chief", 0, 1, 0}, {"worker", 4, 0, 9000}};
  const auto lines = RenderLive(state, 80);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[3], "worker-3 lags: 2 steps behind, silent for 4 s");
  EXPECT_EQ(lines[4], "chief-0 lags: 1 step behind");
  EXPECT_EQ(lines[5], "worker-4 lags: silent for 9 s");
}

TEST(RenderLiveTest, ManyThatLagDoNotFillTheScreen) {
  DisplayState state = Training();
  for (int i = 0; i < 50; ++i) state.lagging.push_back({"worker", i, 1, 0});
  const auto lines = RenderLive(state, 80);
  EXPECT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines.back(), "and 44 more lag");
}

TEST(RenderLiveTest, NoLineIsWiderThanTheTerminal) {
  DisplayState state = Training();
  state.stage = "reading data from a folder with a rather long näme\nand a line break";
  state.lagging = {{"worker", 3, 2, 4200}};
  for (int width = 20; width <= 200; ++width) {
    for (const std::string& line : RenderLive(state, width)) {
      EXPECT_LE(Columns(line), static_cast<size_t>(width)) << line;
      EXPECT_EQ(line.find('\n'), std::string::npos);
    }
  }
}

TEST(RenderLiveTest, StepsBeyondTheTotalDoNotOverflowTheBar) {
  DisplayState state = Training();
  state.step = 20'000;
  EXPECT_THAT(RenderLive(state, 80)[1], HasSubstr("step 20,000/18,000 (100 %)"));
}

TEST(RenderPlainTest, IsOneLine) {
  DisplayState state = Training();
  state.lagging = {{"worker", 3, 2, 4200}, {"chief", 0, 1, 0}};
  EXPECT_EQ(RenderPlain(state),
            "step 4,500/18,000 (25 %)   loss 1.2346   validation 85.1 %   1,467 samples/s   ETA 12 "
            "min 03 s   worker-3 lags: 2 steps behind, silent for 4 s (and 1 more)");
}

// A terminal whose other end we read.
class Terminal {
 public:
  Terminal() {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = 100;
    if (openpty(&outside_, &inside_, nullptr, nullptr, &size) != 0) outside_ = inside_ = -1;
    fcntl(outside_, F_SETFL, O_NONBLOCK);
  }
  ~Terminal() {
    close(outside_);
    close(inside_);
  }
  int fd() const { return inside_; }
  void Resize(unsigned short columns) {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = columns;
    ioctl(outside_, TIOCSWINSZ, &size);
  }
  std::string Read() {
    std::string text;
    char buffer[4096];
    for (ssize_t n; (n = read(outside_, buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(n));
    }
    return text;
  }

 private:
  int outside_ = -1, inside_ = -1;
};

TEST(ScreenTest, OnATerminalTheDisplayIsRedrawnInPlace) {
  Terminal terminal;
  if (terminal.fd() < 0) GTEST_SKIP() << "this system gives no pseudo-terminal";
  Screen screen(terminal.fd(), "xterm");
  ASSERT_TRUE(screen.live());
  EXPECT_EQ(screen.width(), 100);
  screen.Show({"one", "two"});
  EXPECT_EQ(terminal.Read(),
            "\x1b[?25l\x1b[?7l\r\x1b[2Kone\r\n\x1b[2Ktwo\r\n\x1b[J\x1b[?7h\x1b[?25h");
  screen.Show({"three"});
  EXPECT_EQ(terminal.Read(), "\x1b[?25l\x1b[?7l\x1b[2A\r\x1b[2Kthree\r\n\x1b[J\x1b[?7h\x1b[?25h");
}

TEST(ScreenTest, LinesThatANarrowerTerminalHasWrappedAreCountedAsSuch) {
  Terminal terminal;
  if (terminal.fd() < 0) GTEST_SKIP() << "this system gives no pseudo-terminal";
  Screen screen(terminal.fd(), "xterm");
  screen.Show({std::string(90, 'x'), "two"});
  terminal.Resize(40);
  terminal.Read();
  screen.Show({"three"});
  EXPECT_THAT(terminal.Read(), HasSubstr("\x1b[4A"));
}

TEST(ScreenTest, WhatDoesNotChangeIsNotDrawnAgain) {
  Terminal terminal;
  if (terminal.fd() < 0) GTEST_SKIP() << "this system gives no pseudo-terminal";
  Screen screen(terminal.fd(), "xterm");
  screen.Show({"one"});
  terminal.Read();
  screen.Show({"one"});
  EXPECT_EQ(terminal.Read(), "");
}

TEST(ScreenTest, PrintedLinesGoAboveTheDisplay) {
  Terminal terminal;
  if (terminal.fd() < 0) GTEST_SKIP() << "this system gives no pseudo-terminal";
  Screen screen(terminal.fd(), "xterm");
  screen.Show({"display"});
  terminal.Read();
  screen.Print("message");
  const std::string drawn = terminal.Read();
  EXPECT_LT(drawn.find("message"), drawn.find("display"));
  EXPECT_THAT(drawn, HasSubstr("\x1b[1A"));
}

TEST(ScreenTest, ElsewhereThereAreOnlyPlainLines) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  Screen screen(fds[1], "xterm");
  EXPECT_FALSE(screen.live());
  EXPECT_EQ(screen.width(), 80);
  screen.Show({"display"});
  screen.Print("message");
  char buffer[100];
  const ssize_t n = read(fds[0], buffer, sizeof(buffer));
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(n)), "message\n");
  close(fds[0]);
  close(fds[1]);
}

TEST(ScreenTest, ADumbTerminalGetsPlainLines) {
  Terminal terminal;
  if (terminal.fd() < 0) GTEST_SKIP() << "this system gives no pseudo-terminal";
  EXPECT_FALSE(Screen(terminal.fd(), "dumb").live());
  EXPECT_FALSE(Screen(terminal.fd(), nullptr).live());
}

}  // namespace
}  // namespace muster::cluster
