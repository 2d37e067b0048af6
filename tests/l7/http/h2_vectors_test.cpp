#include "tests/l7/http/h2_vectors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h2_session.h"
#include "tests/support/h2_frames.h"

/// Every vector through a session alone: one meaning, however the bytes are cut.
namespace weir::http {
namespace {

using testing::H2Vector;
using weir::testing::H2Reader;

constexpr std::uint64_t kSeed = 12;
constexpr std::uint32_t kStreamsMax = 4;
constexpr Instant kNow{std::chrono::seconds{1000}};

/// What the owner of a session has seen of a stream.
struct Seen {
  std::string outcome;
  std::vector<std::string> fields;
  std::string body;
  std::vector<std::string> trailers;
};

/// A session and an owner who looks at all that there is and answers nothing.
class Observer {
 public:
  Observer(H2Role role, const H2Vector& vector)
      : session_{options(role, vector.window), shared_, kNow},
        is_server_{role == H2Role::kServer},
        replies_{vector.replies},
        left_{vector.writes.value_or(0)} {
    if (is_server_) return;
    reader_.expect_preface();
    open(vector.asks);
  }

  void open(std::string_view method) {
    RequestHead head;
    head.method = method;
    head.target = "/";
    head.fields.add("Host", "a.example");
    const auto body = method == "POST" ? BodyFraming{BodyKind::kChunked, 0} : BodyFraming{};
    const H2Stream* const stream = session_.open(head, body);
    ASSERT_NE(stream, nullptr);
    seen_[stream->id];
    send();
  }

  void receive(std::string_view bytes) {
    // In memory that ends where they do, so that a sanitizer sees who reads further.
    const std::vector<std::byte> exact{as_bytes(bytes).begin(), as_bytes(bytes).end()};
    session_.receive(exact, kNow);
    look();
    send();
    write();
  }

  /// In the words of a vector's "expect".
  [[nodiscard]] std::string outcome() const {
    const auto failed = session_.failure();
    const std::string said = seen_.contains(1) ? seen_.at(1).outcome : "";
    std::string error;
    for (const auto& frame : reader_.frames) {
      const std::string text = frame.text();
      if (text.starts_with("RST_STREAM ") && error.empty()) error = "reset " + text.substr(11);
      if (text.starts_with("GOAWAY ") && !text.ends_with("NO_ERROR"))
        error = "goaway " + text.substr(text.rfind(' ') + 1);
    }
    EXPECT_EQ(failed.has_value(), error.starts_with("goaway"));
    if (error.starts_with("goaway")) return error;
    if (!error.empty() && (is_server_ || said.empty())) return error;
    if (!error.empty()) return said + " then " + error;
    return said.empty() ? "nothing" : said;
  }
  [[nodiscard]] Seen first() const { return seen_.contains(1) ? seen_.at(1) : Seen{}; }
  [[nodiscard]] const H2Counters& counters() const { return shared_.counters(); }
  [[nodiscard]] H2Reader& reader() { return reader_; }
  [[nodiscard]] bool can_open() const { return session_.can_open(); }
  void release_all() {
    for (auto& [id, seen] : seen_)
      if (H2Stream* stream = session_.find(id)) session_.release(*stream);
  }

 private:
  static H2Options options(H2Role role, std::uint32_t window) {
    H2Options all{.role = role, .streams_max = kStreamsMax};
    if (window != 0) all.session_window = window;
    return all;
  }

  void look() {
    while (H2Stream* stream = session_.next_ready()) {
      Seen& seen = seen_[stream->id];
      if (seen.outcome.empty() && stream->head_complete) {
        meet(*stream, seen);
        if (replies_ && stream->id == 1) reply(*stream);
      }
      // Nothing is consumed, so that windows fill.
      seen.body = as_text(H2Session::readable(*stream));
      seen.trailers.clear();
      for (const Field field : stream->trailers)
        seen.trailers.push_back(fmt::format("{}: {}", field.name, field.value));
      if (!is_server_ && stream->closed && !stream->peer_ended && !stream->malformed) {
        const auto code = static_cast<std::uint32_t>(stream->close_code);
        seen.outcome += fmt::format("{}closed {}", seen.outcome.empty() ? "" : " then ",
                                    weir::testing::h2_code_name(code));
      }
      if (stream->closed) session_.release(*stream);
    }
  }

  void meet(H2Stream& stream, Seen& seen) {
    const HeaderList& fields = is_server_ ? stream.request.fields : stream.response.fields;
    for (const Field field : fields)
      seen.fields.push_back(fmt::format("{}: {}", field.name, field.value));
    if (is_server_) {
      RequestUri uri;
      auto refusal = stream.refusal;
      if (!refusal) refusal = uri.resolve(stream.request);
      if (refusal)
        seen.outcome = fmt::format("refuse {}", number_of(refusal->status));
      else if (stream.websocket)
        seen.outcome = fmt::format("websocket {}", stream.request.target);
      else if (stream.request.method == "CONNECT")
        seen.outcome = fmt::format("connect {}", uri.authority());
      else
        seen.outcome = fmt::format("accept {} {}", stream.request.method, stream.request.target);
      return;
    }
    seen.outcome = "accept";
    for (const ResponseHead& head : stream.interim)
      seen.outcome += fmt::format(" {}", number_of(head.status));
    seen.outcome += fmt::format(" {}", number_of(stream.response.status));
  }

  void reply(H2Stream& stream) {
    ResponseHead head;
    head.status = Status::kOk;
    session_.send_head(stream, head, {BodyKind::kLength, *replies_});
    left_ = *replies_;
  }

  /// As much of our body as there is room for; a client waits for what the server allows.
  void write() {
    const bool is_told = is_server_ || std::ranges::any_of(reader_.frames, [](const auto& frame) {
                           return frame.text() == "SETTINGS 0 ack";
                         });
    while (is_told && left_ > 0) {
      H2Stream* const stream = session_.find(1);
      const std::size_t room = stream == nullptr ? 0 : session_.room(*stream);
      if (room == 0) return;
      const std::vector<std::byte> bytes(std::min(room, left_));
      session_.write(*stream, bytes);
      left_ -= bytes.size();
      if (left_ == 0) session_.finish(*stream, {});
      send();
    }
  }

  void send() {
    for (auto piece = session_.output(kNow); !piece.empty(); piece = session_.output(kNow)) {
      EXPECT_LE(piece.size(), H2Session::kPieceMax);
      reader_.feed(as_text(piece));
    }
    // RFC 9113, section 4.2: nobody's limit is lower.
    for (const auto& frame : reader_.frames)
      EXPECT_LE(frame.payload.size(), 16384U) << frame.text();
  }

  H2Shared shared_;
  H2Session session_;
  bool is_server_;
  std::optional<std::size_t> replies_;
  std::size_t left_;  // of our body
  H2Reader reader_;
  std::map<std::int32_t, Seen> seen_;
};

/// As H2Vector::answers says it.
bool has_frame(const H2Reader& reader, std::string_view answer) {
  const std::size_t bar = answer.find(" | ");
  const std::string_view text = answer.substr(0, bar);
  std::string payload;
  if (bar != std::string_view::npos)
    payload = weir::testing::h2_bytes(fmt::format("bytes{}", answer.substr(bar)));
  return std::ranges::any_of(reader.frames, [&](const auto& frame) {
    return frame.text().starts_with(text) && frame.payload.starts_with(payload);
  });
}

void run(const H2Vector& vector, H2Role role, int round) {
  SCOPED_TRACE(fmt::format("seed {}, round {}", kSeed, round));
  Random random{kSeed + static_cast<std::uint64_t>(round)};
  Observer observer{role, vector};
  const std::string bytes = vector.bytes(role == H2Role::kServer);
  for (std::size_t at = 0; at < bytes.size();) {
    // Round 0 is the whole input, round 1 single bytes, the others random pieces.
    const std::size_t piece = round == 0   ? bytes.size()
                              : round == 1 ? 1
                                           : std::size_t{1} + random.below(40);
    observer.receive(std::string_view{bytes}.substr(at, piece));
    at += piece;
  }
  ASSERT_EQ(observer.outcome(), vector.expect);
  if (!vector.opens.empty()) {
    ASSERT_EQ(observer.can_open(), vector.opens == "yes");
    if (observer.can_open()) observer.open("GET");
  }
  for (const std::string& answer : vector.answers)
    EXPECT_TRUE(has_frame(observer.reader(), answer)) << answer;
  EXPECT_EQ(observer.reader().body(1).size(), vector.leaves);
  const Seen first = observer.first();
  if (!vector.fields.empty()) {
    EXPECT_EQ(first.fields, vector.fields);
  }
  if (!vector.expect.starts_with("accept")) return;
  if (!vector.expect.ends_with("_ERROR")) {
    EXPECT_EQ(first.body, vector.body);
    EXPECT_EQ(first.trailers, vector.trailers);
  }
  // The connection still works, where nobody has said goodbye.
  if (std::ranges::any_of(vector.frames, [](const auto& f) { return f.starts_with("goaway"); }))
    return;
  observer.receive(weir::testing::h2_bytes("ping"));
  EXPECT_EQ(observer.reader().first(6, 0), "PING 0 ack");
  observer.release_all();
  EXPECT_EQ(observer.counters().streams, 0U);
}

constexpr int kRounds = 4;
/// Long ones are not sent byte by byte, for time.
bool skips(const H2Vector& vector, int round) {
  return round == 1 && vector.bytes(true).size() > 4096;
}

class H2ServerVectors : public ::testing::TestWithParam<H2Vector> {};
TEST_P(H2ServerVectors, HaveOneMeaningHoweverTheyAreCut) {
  for (int round = 0; round < kRounds; ++round)
    if (!skips(GetParam(), round)) run(GetParam(), H2Role::kServer, round);
}

class H2ClientVectors : public ::testing::TestWithParam<H2Vector> {};
TEST_P(H2ClientVectors, HaveOneMeaningHoweverTheyAreCut) {
  for (int round = 0; round < kRounds; ++round)
    if (!skips(GetParam(), round)) run(GetParam(), H2Role::kClient, round);
}

std::string name_of(const ::testing::TestParamInfo<H2Vector>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(, H2ServerVectors,
                         ::testing::ValuesIn(testing::load_h2_vectors("server.txt")), name_of);
INSTANTIATE_TEST_SUITE_P(, H2ClientVectors,
                         ::testing::ValuesIn(testing::load_h2_vectors("client.txt")), name_of);

TEST(H2VectorFiles, HoldHundredsOfVectorsEachWithANameOfItsOwn) {
  std::vector<std::string> names;
  for (const char* file : {"server.txt", "client.txt"})
    for (const H2Vector& vector : testing::load_h2_vectors(file))
      names.push_back(vector.name);
  EXPECT_GT(names.size(), 340U);
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
}

}  // namespace
}  // namespace weir::http
