#include "l7/http/h2_session.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "l4/base/bytes.h"
#include "tests/support/h2_frames.h"

namespace weir::http {
namespace {

using namespace std::chrono_literals;
using weir::testing::h2_bytes;
using weir::testing::H2Reader;

/// A session, what it sends, and a peer that is written by hand.
class H2 : public ::testing::Test {
 protected:
  void start(H2Options options = {}) {
    session_.emplace(options, shared_, now_);
    if (options.role == H2Role::kServer) {
      sends("preface");
      sends("settings");
      sends("settings ack");
    } else {
      reader_.expect_preface();
      send();
      sends("settings");
    }
  }

  void sends(std::string_view frame) { receive(h2_bytes(frame)); }
  void receive(std::string_view bytes) {
    session_->receive(as_bytes(bytes), now_);
    send();
  }
  void send() {
    for (auto piece = session_->output(now_); !piece.empty(); piece = session_->output(now_))
      reader_.feed(as_text(piece));
  }

  /// The request of a stream that a client has just opened.
  H2Stream& open(std::string_view frame = "headers 1 end | get") {
    sends(frame);
    H2Stream* const stream = session_->next_ready();
    EXPECT_NE(stream, nullptr);
    return *stream;
  }
  void answer(H2Stream& stream, BodyFraming body = {BodyKind::kChunked, 0}) {
    ResponseHead head;
    head.status = Status::kOk;
    session_->send_head(stream, head, body);
    send();
  }
  /// A request of ours, as client.
  H2Stream& ask(BodyFraming body = {}) {
    RequestHead head;
    head.method = body.kind == BodyKind::kNone ? "GET" : "POST";
    head.target = "/";
    head.fields.add("Host", "a.example");
    H2Stream* const stream = session_->open(head, body);
    EXPECT_NE(stream, nullptr);
    send();
    return *stream;
  }

  [[nodiscard]] std::string goaway() const { return reader_.first(7, 0); }
  [[nodiscard]] std::uint64_t abuse(H2Abuse what) const {
    return shared_.counters().abuse[static_cast<std::size_t>(what)];
  }

  /// Repeats frames until the session ends itself; how many it took, at most `most`.
  int until_the_end(const std::vector<std::string>& frames, int most, Duration pause = {}) {
    for (int i = 1; i <= most; ++i) {
      for (const std::string& frame : frames) {
        std::string line = frame;
        if (const std::size_t at = line.find('#'); at != std::string::npos)
          line.replace(at, 1, std::to_string(2 * i - 1));
        sends(line);
      }
      while (H2Stream* stream = session_->next_ready())
        if (stream->closed) session_->release(*stream);
      if (session_->failure()) return i;
      now_ += pause;
    }
    return most + 1;
  }

  Instant now_{1000s};
  H2Shared shared_;
  std::optional<H2Session> session_;
  H2Reader reader_;
};

// ---- budgets ------------------------------------------------------------------------------------

struct AbuseCase {
  std::string_view name;
  H2Abuse what;
  std::vector<std::string> frames;  ///< '#' stands for the next stream
  int burst_min;                    ///< honest clients may do so much at once
  int burst_max;
  Duration honest_pause;  ///< and go on for ever at this pace
};

class H2Abuses : public H2, public ::testing::WithParamInterface<AbuseCase> {};

TEST_P(H2Abuses, EndTheSessionAndAreCountedByName) {
  const AbuseCase& c = GetParam();
  start();
  const int count = until_the_end(c.frames, c.burst_max);
  EXPECT_GE(count, c.burst_min);
  EXPECT_LE(count, c.burst_max);
  EXPECT_TRUE(goaway().ends_with("ENHANCE_YOUR_CALM")) << goaway();
  EXPECT_EQ(abuse(c.what), 1U);
  EXPECT_TRUE(session_->over());
}

TEST_P(H2Abuses, AreNoneAtAnHonestPace) {
  const AbuseCase& c = GetParam();
  start();
  EXPECT_EQ(until_the_end(c.frames, 3 * c.burst_min, c.honest_pause), 3 * c.burst_min + 1);
  for (const std::uint64_t count : shared_.counters().abuse)
    EXPECT_EQ(count, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    , H2Abuses,
    ::testing::Values(
        AbuseCase{
            "RapidReset", H2Abuse::kRapidReset, {"headers # end | get", "rst # 8"}, 200, 210, 50ms},
        AbuseCase{
            "MadeReset", H2Abuse::kMadeReset, {"headers # end | get | x: \\n"}, 200, 210, 50ms},
        AbuseCase{"Ping", H2Abuse::kPing, {"ping"}, 200, 210, 50ms},
        AbuseCase{"Settings", H2Abuse::kSettings, {"settings 3=100"}, 18, 25, 1s},
        AbuseCase{"Priority", H2Abuse::kPriority, {"priority 1"}, 1000, 1010, 20ms},
        AbuseCase{"WindowUpdate", H2Abuse::kWindowUpdate, {"window 0 1"}, 2000, 2010, 10ms},
        AbuseCase{"UnknownFrame", H2Abuse::kUnknownFrame, {"frame 0x77 0 0 | x"}, 100, 110, 100ms}),
    [](const auto& test) { return std::string{test.param.name}; });

TEST_F(H2, EmptyDataForEverEndsTheSession) {
  start();
  open("headers 1 | post");
  EXPECT_LE(until_the_end({"data 1"}, 110), 110);
  EXPECT_EQ(abuse(H2Abuse::kEmptyFrame), 1U);
}

TEST_F(H2, PaddingAloneIsEmptyToo) {
  start();
  open("headers 1 | post");
  EXPECT_LE(until_the_end({"data 1 pad 5"}, 110), 110);
  EXPECT_EQ(abuse(H2Abuse::kEmptyFrame), 1U);
}

TEST_F(H2, AWindowOfOneByteAtATimeEndsTheSession) {
  start();
  sends("settings 4=0");
  H2Stream& stream = open();
  answer(stream);
  session_->write(stream, std::vector<std::byte>(60'000));
  EXPECT_LE(until_the_end({"window 1 1"}, 1010), 1010);
  EXPECT_EQ(abuse(H2Abuse::kTinyWindow), 1U);
}

TEST_F(H2, WindowUpdatesThatFollowDataAreNoAbuse) {
  start();
  H2Stream& stream = open();
  answer(stream);
  for (int i = 0; i < 5000; ++i) {
    session_->write(stream, std::vector<std::byte>(1000));
    send();
    sends("window 0 1000");
    sends("window 1 1000");
  }
  EXPECT_FALSE(session_->failure());
  EXPECT_EQ(reader_.body(1).size(), 5'000'000U);
}

TEST_F(H2, ManyPingsWhileDataComesAreNoAbuse) {
  start();
  H2Stream& stream = open("headers 1 | post");
  for (int i = 0; i < 2000; ++i) {
    sends("data 1 | some bytes");
    sends("ping");
    session_->consume(stream, H2Session::readable(stream).size());
  }
  EXPECT_FALSE(session_->failure());
}

TEST_F(H2, AnswersThatNobodyReadsAreBounded) {
  start();
  // Nothing of what is provoked leaves.
  for (int i = 0; i < 5000 && !session_->failure(); ++i) {
    session_->receive(as_bytes(h2_bytes("ping")), now_);
    now_ += 50ms;
  }
  EXPECT_TRUE(session_->failure());
  EXPECT_EQ(abuse(H2Abuse::kQueue), 1U);
}

TEST_F(H2, ABombOfCompressedFieldsEndsTheSessionEarly) {
  start();
  // 4000 bytes once into the table, and then a byte for each time that they are meant.
  std::string block = "\x82\x86\x84\x41\x01";
  block += "a\x40\x01x";
  block += "\x7f";
  block += std::string{"\xa1\x1e", 2} + std::string(4000, 'v');
  block += std::string(10'000, '\xbe');
  receive(weir::testing::h2_frame(1, 5, 1, block));
  EXPECT_EQ(abuse(H2Abuse::kHeaderList), 1U);
  EXPECT_TRUE(goaway().ends_with("ENHANCE_YOUR_CALM")) << goaway();
}

TEST_F(H2, MemoryIsBoundedForAllSessionsTogether) {
  H2Shared small{256 * 1024};
  H2Session session{{}, small, now_};
  session.receive(as_bytes(h2_bytes("preface") + h2_bytes("settings")), now_);
  const std::string data = h2_bytes("data 1 | \\{16384*x}");
  session.receive(as_bytes(h2_bytes("headers 1 | post") + data + data + data), now_);
  EXPECT_FALSE(session.failure());
  for (int stream = 3; stream < 13; stream += 2) {
    session.receive(as_bytes(h2_bytes(fmt::format("headers {} | post", stream))), now_);
    std::string frame = h2_bytes(fmt::format("data {} | \\{{16384*x}}", stream));
    for (int i = 0; i < 3; ++i)
      session.receive(as_bytes(frame), now_);
  }
  EXPECT_TRUE(session.failure());
  EXPECT_EQ(small.counters().abuse[static_cast<std::size_t>(H2Abuse::kMemory)], 1U);
  EXPECT_LE(small.counters().memory_bytes, 256U * 1024);
}

// ---- flow control -------------------------------------------------------------------------------

TEST_F(H2, WhatIsNotConsumedIsNotAcknowledged) {
  start();
  H2Stream& stream = open("headers 1 | post");
  for (int i = 0; i < 3; ++i)
    sends("data 1 | \\{16384*x}");
  EXPECT_EQ(reader_.first(8, 1), "");
  EXPECT_EQ(H2Session::readable(stream).size(), 3U * 16384);
  session_->consume(stream, 3 * 16384);
  send();
  EXPECT_EQ(reader_.first(8, 1), "WINDOW_UPDATE 1 49152");
}

TEST_F(H2, AStreamThatIsNotReadDoesNotHoldTheOthersUp) {
  start();
  open("headers 1 | post");
  for (int i = 0; i < 4; ++i)
    sends("data 1 | \\{16384*x}");
  while (session_->next_ready() != nullptr) {
  }
  H2Stream& other = open("headers 3 | post");
  for (int i = 0; i < 100; ++i) {
    sends("data 3 | \\{16384*y}");
    session_->consume(other, H2Session::readable(other).size());
    send();
  }
  EXPECT_FALSE(session_->failure());
  EXPECT_TRUE(reader_.first(3, 3).empty());
}

TEST_F(H2, DataOfAReleasedStreamGivesTheConnectionItsWindowBack) {
  start();
  H2Stream& stream = open("headers 1 | post");
  session_->release(stream);
  send();
  EXPECT_EQ(reader_.first(3, 1), "RST_STREAM 1 CANCEL");
  for (int i = 0; i < 200; ++i)
    sends("data 1 | \\{16384*x}");
  EXPECT_FALSE(session_->failure()) << goaway();
  EXPECT_NE(reader_.first(8, 0), "");
  EXPECT_EQ(shared_.counters().streams, 0U);
}

TEST_F(H2, ASlowReaderFillsOneStreamAndNoMore) {
  start();
  H2Stream& stream = open();
  answer(stream);
  std::size_t written = 0;
  for (std::size_t room = session_->room(stream); room > 0; room = session_->room(stream)) {
    written += room;
    ASSERT_LE(written, 1U << 20);
    session_->write(stream, std::vector<std::byte>(room));
    send();
  }
  // The peer's window of 64 KiB, and as much that waits here.
  EXPECT_EQ(reader_.body(1).size(), 65'535U);
  EXPECT_LE(written, 65'535U + 64 * 1024);
  EXPECT_EQ(session_->next_ready(), nullptr);
  sends("window 1 1000");
  sends("window 0 1000");
  EXPECT_EQ(session_->next_ready(), &stream);
  EXPECT_EQ(session_->room(stream), 1000U);
}

TEST_F(H2, ManySlowReadersShareABoundAndNoneStarves) {
  start();
  std::size_t held = 0;
  for (int id = 1; id < 200; id += 2) {
    H2Stream& stream = open(fmt::format("headers {} end | get", id));
    answer(stream);
    for (std::size_t room = session_->room(stream); room > 0; room = session_->room(stream)) {
      held += room;
      session_->write(stream, std::vector<std::byte>(room));
      send();
    }
  }
  EXPECT_GT(held, 1024U * 1024);
  EXPECT_LE(held, 1024U * 1024 + 100 * 4096 + 65'536);
  EXPECT_LE(shared_.counters().memory_bytes, 2U * 1024 * 1024);
}

TEST_F(H2, StreamsThatAllHaveDataTakeTurns) {
  start();
  sends("settings 4=1000000");
  sends("window 0 1000000");
  H2Stream& one = open("headers 1 end | get");
  H2Stream& two = open("headers 3 end | get");
  answer(one);
  answer(two);
  session_->write(one, std::vector<std::byte>(60'000));
  session_->write(two, std::vector<std::byte>(60'000));
  send();
  std::string order;
  for (const auto& frame : reader_.frames)
    if (frame.type == 0) order += std::to_string(frame.stream);
  EXPECT_EQ(order, "13131313");
}

// ---- ends ---------------------------------------------------------------------------------------

TEST_F(H2, ShutdownComesInTwoStepsAndLosesNoStream) {
  start();
  open();
  session_->drain();
  send();
  EXPECT_EQ(goaway(), "GOAWAY 0 2147483647 NO_ERROR");
  // The client had not heard of it.
  H2Stream& late = open("headers 3 end | get");
  sends("ping ack");
  EXPECT_EQ(reader_.frames.back().text(), "GOAWAY 0 3 NO_ERROR");
  EXPECT_FALSE(session_->over());
  sends("headers 5 end | get");
  EXPECT_EQ(session_->next_ready(), nullptr);
  answer(late, {});
  answer(*session_->find(1), {});
  session_->release(late);
  session_->release(*session_->find(1));
  send();
  EXPECT_TRUE(session_->over());
  EXPECT_FALSE(session_->failure());
}

TEST_F(H2, AnAnswerBeforeTheEndOfItsRequestIsWhole) {
  start();
  H2Stream& stream = open("headers 1 | post");
  answer(stream);
  session_->write(stream, as_bytes("enough"));
  session_->finish(stream, {});
  send();
  EXPECT_TRUE(stream.sent_all);
  session_->release(stream);
  send();
  EXPECT_EQ(reader_.body(1), "enough");
  EXPECT_EQ(reader_.first(3, 1), "RST_STREAM 1 NO_ERROR");
}

TEST_F(H2, AFrameForAStreamThatBothHaveEndedIsAnErrorSaidOnce) {
  start();
  H2Stream& stream = open();
  answer(stream, {});
  session_->release(stream);
  sends("data 1 | x");
  sends("data 1 end | y");
  EXPECT_EQ(reader_.frames.back().text(), "RST_STREAM 1 STREAM_CLOSED");
  EXPECT_EQ(session_->streams(), 0U);
  EXPECT_FALSE(session_->failure());
  sends("data 1 | z");
  sends("ping");
  EXPECT_EQ(reader_.frames.back().text(), "PING 0 ack");
  const auto resets = std::ranges::count_if(
      reader_.frames, [](const auto& frame) { return frame.text().starts_with("RST_STREAM"); });
  EXPECT_EQ(resets, 1);
}

TEST_F(H2, WhatAClientSendsBeforeItReadsThatItsAnswerWasEarlyIsIgnored) {
  start();
  H2Stream& stream = open("headers 1 | post");
  answer(stream, {});
  session_->release(stream);
  send();
  ASSERT_EQ(reader_.frames.back().text(), "RST_STREAM 1 NO_ERROR");
  sends("data 1 | the rest");
  sends("headers 1 end | x-sum: 12");
  sends("ping");
  EXPECT_EQ(reader_.frames.back().text(), "PING 0 ack");
  EXPECT_EQ(reader_.frames[reader_.frames.size() - 2].text(), "RST_STREAM 1 NO_ERROR");
}

TEST_F(H2, WhatAClientSendsForAStreamThatAGoawayLeavesOutIsIgnored) {
  start();
  H2Stream& stream = open();
  session_->drain();
  send();
  sends("ping ack");
  ASSERT_EQ(reader_.frames.back().text(), "GOAWAY 0 1 NO_ERROR");
  sends("headers 3 | post");
  sends("data 3 | x");
  sends("data 3 end | y");
  EXPECT_EQ(reader_.frames.back().text(), "GOAWAY 0 1 NO_ERROR");
  answer(stream, {});
  session_->release(stream);
  send();
  EXPECT_TRUE(session_->over());
  EXPECT_FALSE(session_->failure());
}

TEST_F(H2, FramesForStreamsThatAreOverCannotBeSentForEver) {
  start();
  EXPECT_LE(until_the_end({"headers # end | get", "rst # 8", "data # | x"}, 210, 25ms), 210);
  EXPECT_EQ(abuse(H2Abuse::kMadeReset) + abuse(H2Abuse::kRapidReset), 1U);
}

TEST_F(H2, TheLastByteOfALengthComesWithTheEnd) {
  start();
  H2Stream& stream = open("headers 1 | post | content-length: 5");
  sends("data 1 | hello");
  EXPECT_EQ(as_text(H2Session::readable(stream)), "hell");
  session_->consume(stream, 4);
  EXPECT_EQ(as_text(H2Session::readable(stream)), "");
  sends("data 1 end");
  EXPECT_EQ(as_text(H2Session::readable(stream)), "o");
}

TEST_F(H2, TheLastByteOfALengthDoesNotComeWithMoreBehindIt) {
  start();
  H2Stream& stream = open("headers 1 | post | content-length: 5");
  sends("data 1 | hello");
  sends("data 1 end | x");
  EXPECT_TRUE(stream.malformed);
  EXPECT_EQ(as_text(H2Session::readable(stream)), "hell");
}

TEST_F(H2, TheLastByteOfAnAnswerComesWithItsEnd) {
  start({.role = H2Role::kClient});
  H2Stream& whole = ask();
  sends("headers 1 | :status: 200 | content-length: 5");
  sends("data 1 | hello");
  EXPECT_EQ(as_text(H2Session::readable(whole)), "hell");
  sends("data 1 end");
  EXPECT_EQ(as_text(H2Session::readable(whole)), "hello");
  H2Stream& wrong = ask();
  sends("headers 3 | :status: 200 | content-length: 5");
  sends("data 3 | hello");
  sends("data 3 end | x");
  EXPECT_TRUE(wrong.malformed);
  EXPECT_EQ(as_text(H2Session::readable(wrong)), "hell");
}

TEST_F(H2, AHeadWithALengthOfZeroComesWithTheEnd) {
  start();
  sends("headers 1 | post | content-length: 0");
  EXPECT_EQ(session_->next_ready(), nullptr);
  sends("data 1 end");
  const H2Stream* const stream = session_->next_ready();
  ASSERT_NE(stream, nullptr);
  EXPECT_TRUE(stream->head_complete && stream->peer_ended);
  EXPECT_EQ(stream->request_framing.body, (BodyFraming{BodyKind::kLength, 0}));
  sends("headers 3 | post | content-length: 0");
  sends("data 3 | x");
  EXPECT_EQ(session_->next_ready(), nullptr);
  EXPECT_EQ(shared_.counters().streams_malformed, 1U);
}

TEST_F(H2, TrailersEndAMessageWithALengthOfZero) {
  start();
  sends("headers 1 | post | content-length: 0");
  sends("headers 1 end | x-sum: 12");
  const H2Stream* const stream = session_->next_ready();
  ASSERT_NE(stream, nullptr);
  EXPECT_TRUE(stream->head_complete && stream->peer_ended);
  EXPECT_EQ(stream->trailers.find("x-sum"), "12");
}

TEST_F(H2, AnAnswerWithALengthOfZeroComesWithItsEnd) {
  start({.role = H2Role::kClient});
  const H2Stream& whole = ask();
  sends("headers 1 | :status: 200 | content-length: 0");
  EXPECT_FALSE(whole.head_complete);
  sends("data 1 end");
  EXPECT_TRUE(whole.head_complete && whole.peer_ended);
  const H2Stream& wrong = ask();
  sends("headers 3 | :status: 200 | content-length: 0");
  sends("data 3 | x");
  EXPECT_TRUE(wrong.malformed);
  EXPECT_FALSE(wrong.head_complete);
}

TEST_F(H2, ALengthOfZeroKeepsNoTunnelWaiting) {
  start();
  EXPECT_TRUE(open("headers 1 | :method: CONNECT | :authority: a.example:443 | content-length: 0")
                  .head_complete);
}

TEST_F(H2, TrailersEndABody) {
  start();
  H2Stream& stream = open();
  answer(stream);
  session_->write(stream, as_bytes("hello"));
  HeaderList trailers;
  trailers.add("Grpc-Status", "0");
  session_->finish(stream, trailers);
  send();
  EXPECT_EQ(reader_.heads(1), ":status: 200\ngrpc-status: 0\n");
  EXPECT_TRUE(reader_.ended(1));
}

TEST_F(H2, FieldsOfAConnectionAreNotHandedOn) {
  start();
  H2Stream& stream = open();
  ResponseHead head;
  head.status = Status::kOk;
  for (const std::string_view name :
       {"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "TE"})
    head.fields.add(name, "x");
  head.fields.add("X-Kept", "1");
  session_->send_head(stream, head, {BodyKind::kLength, 5});
  send();
  EXPECT_EQ(reader_.heads(1), ":status: 200\nx-kept: 1\ncontent-length: 5\n");
}

TEST_F(H2, ARequestThatIsResetBeforeItWasSeenIsNone) {
  start();
  receive(h2_bytes("headers 1 | post") + h2_bytes("rst 1 8"));
  EXPECT_EQ(session_->next_ready(), nullptr);
  EXPECT_EQ(shared_.counters().streams, 0U);
  EXPECT_EQ(shared_.counters().streams_opened, 1U);
}

TEST_F(H2, AClientOpensNoMoreThanItMay) {
  start({.role = H2Role::kClient});
  sends("settings 3=2");
  EXPECT_TRUE(session_->can_open());
  ask();
  ask();
  EXPECT_FALSE(session_->can_open());
  sends("headers 1 end | :status: 204");
  H2Stream* const done = session_->next_ready();
  ASSERT_NE(done, nullptr);
  EXPECT_TRUE(done->peer_ended);
  session_->release(*done);
  EXPECT_TRUE(session_->can_open());
  sends("goaway 3 0");
  EXPECT_FALSE(session_->can_open());
}

TEST_F(H2, AClientThatHasResetManyStreamsOpensNoMoreAndKeepsThoseItHas) {
  start({.role = H2Role::kClient});
  H2Stream& kept = ask();
  for (std::uint32_t i = 0; i < H2Session::kResetsMax; ++i) {
    ASSERT_TRUE(session_->can_open()) << i;
    session_->release(ask());
    send();
  }
  EXPECT_FALSE(session_->can_open());
  EXPECT_TRUE(session_->draining());
  EXPECT_FALSE(session_->over());
  sends("headers 1 | :status: 200");
  sends("data 1 end | hello");
  EXPECT_EQ(as_text(H2Session::readable(kept)), "hello");
  EXPECT_EQ(goaway(), "");
}

TEST_F(H2, AHeadThatHasBegunIsKnownUntilItEnds) {
  start();
  EXPECT_FALSE(session_->within_head());
  sends("headers 1 end more | get");
  EXPECT_TRUE(session_->within_head());
  sends("continuation 1 | x: 1");
  EXPECT_FALSE(session_->within_head());
}

TEST_F(H2, NothingIsLeftOfASessionThatEndsInTheMiddle) {
  start();
  H2Stream& stream = open("headers 1 | post");
  sends("data 1 | some bytes");
  answer(stream);
  session_->write(stream, std::vector<std::byte>(100'000));
  send();
  EXPECT_GT(shared_.counters().memory_bytes, 0U);
  session_.reset();
  EXPECT_EQ(shared_.counters().memory_bytes, 0U);
  EXPECT_EQ(shared_.counters().streams, 0U);
  EXPECT_EQ(shared_.counters().sessions, 0U);
}

}  // namespace
}  // namespace weir::http
