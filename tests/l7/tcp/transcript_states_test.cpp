#include <fmt/format.h>

#include <map>
#include <string>

#include "tests/l7/tcp/transcript.h"

// Every state against every kind of segment: RFC 9293, section 3.10.7.4, with the stricter rules
// for RST, SYN and ACK of RFC 5961, sections 3.2, 4.2 and 5.2. SYN-SENT is in section 3.10.7.3,
// TIME-WAIT follows RFC 1337 where it ignores RST.

namespace weir::tcp {
namespace {

/// How a connection comes into a state by 50 ms, and its numbers there: the peer's next and ours.
struct State {
  const char* name;
  const char* until_50ms;
  unsigned receive_next;
  unsigned send_next;
};

#define WEIR_ACCEPTED "0 listen\n0 in S 0:0 mss 1000\n0 out S. 0:0 ack 1\n"
#define WEIR_ESTABLISHED WEIR_ACCEPTED "10 in . 1:1 ack 1\n10 news accepted\n"
#define WEIR_FIN_SENT WEIR_ESTABLISHED "20 close\n20 out F. 1:1 ack 1\n"
#define WEIR_FIN_RECEIVED \
  WEIR_ESTABLISHED "20 in F. 1:1 ack 1\n20 out . 1:1 ack 2\n20 news readable\n"

const State kStates[] = {
    {"SynReceived", WEIR_ACCEPTED, 1, 1},
    {"Established", WEIR_ESTABLISHED, 1, 1},
    {"FinWait1", WEIR_FIN_SENT, 1, 2},
    {"FinWait2", WEIR_FIN_SENT "30 in . 1:1 ack 2\n", 1, 2},
    {"CloseWait", WEIR_FIN_RECEIVED, 2, 1},
    {"Closing", WEIR_FIN_SENT "30 in F. 1:1 ack 1\n30 out . 2:2 ack 2\n30 news readable\n", 2, 2},
    {"LastAck", WEIR_FIN_RECEIVED "30 close\n30 out F. 1:1 ack 2\n", 2, 2},
    {"TimeWait",
     WEIR_FIN_SENT "30 in . 1:1 ack 2\n40 in F. 1:1 ack 2\n40 out . 2:2 ack 2\n"
                   "40 news readable closed\n",
     2, 2},
};

/// r and s stand for the numbers of the state.
struct Event {
  const char* name;
  const char* line;
};

const Event kEvents[] = {
    {"Syn", "50 in S {r}:{r}"},
    {"RstWithTheExactNumber", "50 in R {r}:{r}"},
    {"RstElsewhereInTheWindow", "50 in R {r5}:{r5}"},
    {"RstOutsideOfTheWindow", "50 in R {old}:{old}"},
    {"AckOfWhatWasNeverSent", "50 in . {r}:{r} ack 100"},
    {"AckFromLongAgo", "50 in . {r}:{r} ack -100000"},
    {"Fin", "50 in F. {r}:{r} ack {s}"},
    {"RepeatedFin", "50 in F. {old}:{old} ack {s}"},
    {"Text", "50 in . {r}:{r10} ack {s}"},
    {"TextBeyondTheWindow", "50 in . {far}:{far10} ack {s}"},
    {"NoFlags", "50 in - {r}:{r}"},
};

const std::string kSilence = "50 news none\n51 count connections 1\n";
const std::string kSilenceInTimeWait = "50 news none\n51 count time_wait 1\n";
const std::string kAck = "50 out . {s}:{s} ack {r}\n50 news none\n51 count connections 1\n";
const std::string kChallenge = kAck + "51 count challenge_acks 1\n";
const std::string kReset = "50 news reset\n50 failure reset\n51 count resets_received 1\n";
const std::string kAckInTimeWait = "50 out . {s}:{s} ack {r}\n50 news none\n51 count time_wait 1\n";

/// What follows, by state and event. Where a state is missing the line for all of them holds.
const std::map<std::string, std::map<std::string, std::string>> kOutcomes = {
    {"Syn",
     {{"all", kChallenge},
      // A passive open returns to LISTEN (section 3.10.7.4, fourth); challenging it is as good.
      {"SynReceived", "50 may . 1:1 ack 1\n51 news none\n"},
      {"TimeWait", kAckInTimeWait}}},
    {"RstWithTheExactNumber",
     {{"all", kReset},
      {"SynReceived", "50 news none\n51 count half_open 0\n51 count connections 0\n"},
      {"TimeWait", kSilenceInTimeWait}}},
    {"RstElsewhereInTheWindow",
     {{"all", kChallenge},
      {"SynReceived", "50 may . 1:1 ack 1\n51 news none\n51 count half_open 1\n"},
      {"TimeWait", kSilenceInTimeWait}}},
    {"RstOutsideOfTheWindow",
     {{"all", kSilence + "51 count challenge_acks 0\n"},
      {"SynReceived", "50 news none\n51 count half_open 1\n"},
      {"TimeWait", kSilenceInTimeWait}}},
    {"AckOfWhatWasNeverSent",
     {{"all", kChallenge},
      {"SynReceived", "50 out R 100:100\n50 news none\n51 count half_open 1\n"},
      {"TimeWait", kSilenceInTimeWait}}},
    {"AckFromLongAgo",
     {{"all", kChallenge},
      {"SynReceived", "50 out R -100000:-100000\n50 news none\n51 count half_open 1\n"},
      {"TimeWait", kSilenceInTimeWait}}},
    {"Fin",
     {{"Established", "50 out . 1:1 ack 2\n50 news readable\n50 eof\n"},
      {"SynReceived", "50 out . 1:1 ack 2\n50 news accepted readable\n50 eof\n"},
      {"FinWait1", "50 out . 2:2 ack 2\n50 news readable closed\n51 count time_wait 1\n"},
      {"FinWait2", "50 out . 2:2 ack 2\n50 news readable closed\n51 count time_wait 1\n"}}},
    {"RepeatedFin",
     {{"CloseWait", kAck},
      // Its ACK is not heard: what is not acceptable is dropped as a whole (first).
      {"Closing", kAck},
      {"LastAck", kAck},
      {"TimeWait", kAckInTimeWait}}},
    {"Text",
     {{"all", "50-91 out . {s}:{s} ack {r10}\n91 news readable\n91 read 10\n"},
      {"SynReceived", "50-91 out . 1:1 ack 11\n91 news accepted readable\n91 read 10\n"},
      // After its FIN a peer has nothing to say: not read (section 3.10.7.4, seventh).
      {"CloseWait", "50 may . {s}:{s} ack {r}\n91 skip\n91 news none\n91 eof\n"},
      {"Closing", "91 skip\n91 eof\n91 count bytes_received 0\n"},
      {"LastAck", "91 skip\n91 count bytes_received 0\n"},
      {"TimeWait", kAckInTimeWait}}},
    {"TextBeyondTheWindow",
     {{"all", kAck},
      {"SynReceived", "50 out . 1:1 ack 1\n51 skip\n51 count bytes_received 0\n"},
      {"TimeWait", kAckInTimeWait}}},
    {"NoFlags",
     {{"all", kSilence},
      {"SynReceived", "50 news none\n51 count half_open 1\n"},
      {"TimeWait", kSilenceInTimeWait}}},
};

struct Cell {
  const State* state;
  const Event* event;
  std::string outcome;
};

std::vector<Cell> cells() {
  std::vector<Cell> all;
  for (const State& state : kStates) {
    for (const Event& event : kEvents) {
      const auto& outcomes = kOutcomes.at(event.name);
      auto found = outcomes.find(state.name);
      if (found == outcomes.end()) found = outcomes.find("all");
      if (found != outcomes.end()) all.push_back({&state, &event, found->second});
    }
  }
  return all;
}

class TcpStates : public ::testing::TestWithParam<Cell> {};

TEST_P(TcpStates, DoWhatTheTableSays) {
  // RFC 9293, section 3.10.7.4; RFC 5961, sections 3.2, 4.2 and 5.2; RFC 1337, section 3, for
  // TIME-WAIT.
  const State& state = *GetParam().state;
  const unsigned r = state.receive_next;
  const std::string lines =
      fmt::format(fmt::runtime(std::string{GetParam().event->line} + "\n" + GetParam().outcome),
                  fmt::arg("r", r), fmt::arg("s", state.send_next), fmt::arg("r5", r + 5),
                  fmt::arg("r10", r + 10), fmt::arg("old", static_cast<int>(r) - 1),
                  fmt::arg("far", r + 70000), fmt::arg("far10", r + 70010));
  expect_transcript(state.until_50ms + lines);
}

INSTANTIATE_TEST_SUITE_P(, TcpStates, ::testing::ValuesIn(cells()), [](const auto& row) {
  return std::string{row.param.state->name} + "Gets" + row.param.event->name;
});

// ---- SYN-SENT: RFC 9293, section 3.10.7.3 -------------------------------------------------------

struct SynSentCase {
  const char* name;
  const char* lines;
};

class TcpSynSent : public ::testing::TestWithParam<SynSentCase> {};

TEST_P(TcpSynSent, DoesWhatTheTableSays) {
  // RFC 9293, section 3.10.7.3.
  expect_transcript(std::string{"0 connect\n0 out S 0:0\n"} + GetParam().lines);
}

constexpr const char* kStillOpens = "60 in S. 0:0 ack 1\n60 out . 1:1 ack 1\n60 news connected\n";

INSTANTIATE_TEST_SUITE_P(
    , TcpSynSent,
    ::testing::Values(
        SynSentCase{"ASynOpensSimultaneously", "50 in S 0:0\n50 out S. 0:0 ack 1\n50 news none\n"},
        SynSentCase{"ARstThatAcksTheSynRefuses",
                    "50 in R. 0:0 ack 1\n50 news reset\n50 failure refused\n"},
        SynSentCase{"AFinIsDropped", "50 in F. 5:5 ack 1\n50 news none\n51 count connections 1\n"},
        SynSentCase{"TextIsDropped", "50 in P. 1:11 ack 1\n50 news none\n51 count connections 1\n"},
        SynSentCase{"ABareAckIsDropped",
                    "50 in . 1:1 ack 1\n50 news none\n51 count connections 1\n"},
        SynSentCase{"NoFlagsAreDropped", "50 in - 0:0\n50 news none\n51 count connections 1\n"},
        SynSentCase{"ATooNewAckWithSynIsReset", "50 in S. 0:0 ack 9\n50 out R 9:9\n50 news none\n"},
        SynSentCase{"ATooOldAckIsReset", "50 in . 0:0 ack 0\n50 out R 0:0\n50 news none\n"},
        SynSentCase{"AResetWithAForeignAckIsIgnored",
                    "50 in R. 0:0 ack 77\n50 news none\n51 count connections 1\n"},
        SynSentCase{"TextOnTheAnswerIsNotTaken",
                    "50 in S. 0:10 ack 1\n50-91 out . 1:1 ack 1\n91 skip\n91 news connected\n"
                    "91 count bytes_received 0\n"}),
    [](const auto& row) { return std::string{row.param.name}; });

TEST(TcpOpening, WhatIsNotForItLeavesTheOpenGoingOn) {
  // RFC 9293, section 3.10.7.3, fifth: without SYN and RST "drop the segment and return"; second: a
  // RST without ACK as well.
  expect_transcript(std::string{R"(
   0 connect
   0 out S 0:0
  10 in  - 0:0
  20 in  F. 5:5 ack 1
  30 in  P. 1:11 ack 1
  40 in  R 0:0
)"} + kStillOpens);
}

// ---- LISTEN: RFC 9293, section 3.10.7.2 ---------------------------------------------------------

TEST(TcpListen, AResetIsIgnored) {
  // RFC 9293, section 3.10.7.2, first.
  expect_transcript(
      "0 listen\n0 in R 0:0\n0 in R. 0:0 ack 5\n1 count connections 0\n1 news none\n");
}

TEST(TcpListen, AnAckIsReset) {
  // RFC 9293, section 3.10.7.2, second: <SEQ=SEG.ACK><CTL=RST>.
  expect_transcript("0 listen\n0 in . 0:0 ack 5\n0 out R 5:5\n0 in S. 0:0 ack 6\n0 out R 6:6\n");
}

TEST(TcpListen, ASegmentWithoutFlagsIsDroppedOrReset) {
  // RFC 9293, section 3.10.7.2, fourth: "drop the segment"; there is no ACK whose number a RST
  // could have.
  expect_transcript("0 listen\n0 in - 0:0\n1 skip\n1 count connections 0\n");
}

TEST(TcpListen, ASynWithFinOrRstIsDropped) {
  // RFC 9293, section 3.10.7.2: a RST is looked at before a SYN (first) and ignored. The FIN of a
  // SYN would be kept for later (third); here the segment is dropped, for only scanners send it.
  expect_transcript(R"(
   0 listen
   0 in  SF 0:0
   0 in  SR 0:0
   0 in  SFP.U 0:0 ack 0
   1 count connections 0
   1 count half_open 0
   1 count dropped_malformed 3
)");
}

TEST(TcpListen, TextOnTheSynIsLeftForLater) {
  // RFC 9293, section 3.10.7.2, third, lets it be queued; this stack lets the peer repeat it.
  expect_transcript(R"(
   0 listen
   0 in  S 0:10 mss 1000
   0 out S. 0:0 ack 1
  10 in  . 1:11 ack 1
  10-51 out . 1:1 ack 11
  60 news accepted readable
  60 read 10
)");
}

TEST(TcpListen, PushAndUrgentOnASynDoNotMatter) {
  // RFC 9293, section 3.10.7.2, third: other control bits are for later, and without text there is
  // nothing to push or to be urgent about.
  expect_transcript("0 listen\n0 in SPU 0:0 urg 3\n0 out S. 0:0 ack 1\n");
}

}  // namespace
}  // namespace weir::tcp
