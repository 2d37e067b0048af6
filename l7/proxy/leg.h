#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "l7/http/h1.h"
#include "l7/http/h2_session.h"
#include "l7/proxy/channel.h"

namespace weir::proxy {

/// Some bytes of a body, or how it ends.
struct BodyPiece {
  enum class State : std::uint8_t { kNothingYet, kPayload, kEnd, kCut, kMalformed };
  State state = State::kNothingYet;
  std::span<const std::byte> payload{};  ///< with kPayload, never empty
  std::size_t consumed = 0;              ///< what taken() takes from the front, framing included
  bool moved = false;                    ///< something was read, if only framing
};

/// A response head, or why there is none.
enum class HeadState : std::uint8_t { kNothingYet, kInterim, kFinal, kCut, kMalformed };

/// What becomes of trailers on their way: those that were announced, or, between two sides that
/// announce none, all that may be some.
struct TrailerRule {
  bool all = false;
  std::string_view announced{};
};

/// One side of an exchange, whatever its version of HTTP: a message comes in, another goes out, and
/// each body is framed anew. Two kinds of them, and an exchange has one of each kind for each of
/// its sides, so that changing over costs nothing. An exchange speaks to no connection but through
/// these.
class Leg {
 public:
  Leg() = default;
  Leg(const Leg&) = delete;
  Leg& operator=(const Leg&) = delete;
  virtual ~Leg() = default;

  /// Moves what has arrived to where read() finds it, `most` bytes of it; and what was written,
  /// onwards. True if it got on. With HTTP/2 the connection does that for all its streams.
  [[nodiscard]] virtual bool fill(std::size_t most) = 0;
  [[nodiscard]] virtual bool flush() = 0;
  /// The connection cannot be spoken over any more.
  [[nodiscard]] virtual bool failed() const = 0;

  // In.
  /// Towards an endpoint: the next head of its answer, in response(). Interim heads come one by
  /// one.
  [[nodiscard]] virtual HeadState read_head(std::string_view request_method) = 0;
  [[nodiscard]] virtual http::ResponseHead& response() = 0;
  [[nodiscard]] virtual http::ResponseFraming framing() const = 0;
  /// The body that comes; at most `most` bytes of it. Payload is to be taken() before the next
  /// call.
  virtual void begin_body(http::BodyFraming body) = 0;
  [[nodiscard]] virtual BodyPiece read(std::size_t most) = 0;
  virtual void taken(const BodyPiece& piece) = 0;
  [[nodiscard]] virtual const http::HeaderList& trailers() const = 0;
  /// What was wrong with a message that was malformed or cut, as far as it is known. Lives as long
  /// as the process.
  [[nodiscard]] virtual std::string_view why() const = 0;
  /// Nothing has arrived that nobody has read.
  [[nodiscard]] virtual bool input_empty() const = 0;
  /// The peer has ended its side of the connection, and all that it said has been read.
  [[nodiscard]] virtual bool peer_is_done() const = 0;
  /// Bytes of the body that its framing has promised and that read() has not given yet, as far as
  /// that is known.
  [[nodiscard]] virtual std::uint64_t promised() const = 0;

  // Out.
  /// Whether a head of any size that is allowed fits.
  [[nodiscard]] virtual bool head_room() = 0;
  /// False when the connection turns out to take no more requests.
  [[nodiscard]] virtual bool send_request(const http::RequestHead& head,
                                          http::BodyFraming body) = 0;
  virtual void send_interim(const http::ResponseHead& head) = 0;
  virtual void send_response(const http::ResponseHead& head, http::BodyFraming body) = 0;
  /// Bytes of payload that write() takes now.
  [[nodiscard]] virtual std::size_t room() = 0;
  virtual void write(std::span<const std::byte> payload) = 0;
  /// Ends the body. False when there is no room for that; call again.
  [[nodiscard]] virtual bool finish(const http::HeaderList& trailers, const TrailerRule& rule) = 0;
  /// All that was written has been taken by TCP, or nobody will ever take it.
  [[nodiscard]] virtual bool delivered() const = 0;
  /// Something that was written waits for the peer to take it.
  [[nodiscard]] virtual bool has_unsent() const = 0;

  /// From here on bytes pass that are no HTTP, until each side ends its own.
  virtual void begin_tunnel() = 0;
};

/// HTTP/1.0 and 1.1: a connection has one exchange at a time.
class H1Leg final : public Leg {
 public:
  /// `parser` reads answers; none on the client's side.
  void attach(Channel& channel, http::ResponseParser* parser) {
    channel_ = &channel;
    parser_ = parser;
    writes_ = http::BodyKind::kNone;
    tunnel_ = interim_read_ = false;
    why_ = {};
    reads_.begin({});
  }

  bool fill(std::size_t most) override { return channel_->fill(most); }
  bool flush() override { return channel_->flush(); }
  bool failed() const override { return channel_->failed(); }
  HeadState read_head(std::string_view request_method) override;
  http::ResponseHead& response() override { return parser_->head(); }
  http::ResponseFraming framing() const override { return parser_->framing(); }
  void begin_body(http::BodyFraming body) override { reads_.begin(body); }
  BodyPiece read(std::size_t most) override;
  void taken(const BodyPiece& piece) override { channel_->consume(piece.consumed); }
  const http::HeaderList& trailers() const override { return reads_.trailers(); }
  std::string_view why() const override { return why_; }
  bool input_empty() const override { return channel_->input().empty(); }
  bool peer_is_done() const override { return channel_->peer_is_done(); }
  std::uint64_t promised() const override { return reads_.promised(); }
  bool head_room() override { return channel_->output().room() >= kReplyRoom; }
  bool send_request(const http::RequestHead& head, http::BodyFraming body) override;
  void send_interim(const http::ResponseHead& head) override;
  void send_response(const http::ResponseHead& head, http::BodyFraming body) override;
  std::size_t room() override;
  void write(std::span<const std::byte> payload) override;
  bool finish(const http::HeaderList& trailers, const TrailerRule& rule) override;
  bool delivered() const override { return channel_->output().empty(); }
  bool has_unsent() const override { return !channel_->output().empty(); }
  void begin_tunnel() override;

 private:
  Channel* channel_ = nullptr;
  http::ResponseParser* parser_ = nullptr;
  bool interim_read_ = false;  // the parser holds a head that has been passed on
  bool tunnel_ = false;
  http::BodyKind writes_ = http::BodyKind::kNone;
  http::BodyDecoder reads_;
  std::string_view why_;
  std::vector<std::byte> scratch_;
};

/// One stream of a connection that is shared with others.
class H2Leg final : public Leg {
 public:
  /// The client's side: a request that has come.
  void attach(http::H2Session& session, http::H2Stream& stream) {
    session_ = &session;
    stream_ = &stream;
  }
  /// An endpoint's: the stream comes with send_request(), and says `owner` when it has changed.
  void attach(http::H2Session& session, std::uint64_t owner) {
    session_ = &session;
    stream_ = nullptr;
    owner_ = owner;
  }
  [[nodiscard]] http::H2Stream& stream() const { return *stream_; }
  [[nodiscard]] bool was_refused() const {
    return stream_ != nullptr && stream_->closed && !stream_->head_complete &&
           stream_->close_code == http::H2Code::kRefusedStream;
  }
  /// Lets go of the stream, with that code if it is not over.
  void release(http::H2Code code);

  bool fill(std::size_t) override { return false; }
  bool flush() override { return false; }
  bool failed() const override {
    return stream_ == nullptr || (stream_->closed && !stream_->sent_all);
  }
  HeadState read_head(std::string_view request_method) override;
  http::ResponseHead& response() override { return *head_; }
  http::ResponseFraming framing() const override { return stream_->response_framing; }
  void begin_body(http::BodyFraming) override {}
  BodyPiece read(std::size_t most) override;
  void taken(const BodyPiece& piece) override { session_->consume(*stream_, piece.consumed); }
  const http::HeaderList& trailers() const override { return stream_->trailers; }
  std::string_view why() const override;
  bool input_empty() const override { return http::H2Session::readable(*stream_).empty(); }
  bool peer_is_done() const override { return false; }  // its streams end with its connection
  std::uint64_t promised() const override { return 0; }
  /// Of an endpoint's: whether it takes one more request.
  bool head_room() override { return stream_ != nullptr || session_->can_open(); }
  bool send_request(const http::RequestHead& head, http::BodyFraming body) override;
  void send_interim(const http::ResponseHead& head) override;
  void send_response(const http::ResponseHead& head, http::BodyFraming body) override;
  std::size_t room() override { return stream_ == nullptr ? 0 : session_->room(*stream_); }
  void write(std::span<const std::byte> payload) override { session_->write(*stream_, payload); }
  bool finish(const http::HeaderList& trailers, const TrailerRule& rule) override;
  bool delivered() const override {
    return stream_ == nullptr || stream_->sent_all || stream_->closed;
  }
  bool has_unsent() const override {
    return stream_ != nullptr && http::H2Session::has_unsent(*stream_);
  }
  void begin_tunnel() override {}

 private:
  http::H2Session* session_ = nullptr;
  http::H2Stream* stream_ = nullptr;
  std::uint64_t owner_ = 0;
  http::ResponseHead* head_ = nullptr;  // the one that was read last
  std::size_t interim_at_ = 0;  // of the interim heads that have come, those that were passed on
};

}  // namespace weir::proxy
