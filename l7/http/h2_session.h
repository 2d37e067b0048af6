#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "l4/base/clock.h"
#include "l7/http/h1.h"
#include "l7/http/h2_budget.h"
#include "l7/http/message.h"
#include "l7/http/semantics.h"

/// HTTP/2 (RFC 9113) over bytes: nghttp2 behind one class. Heads come out as those of HTTP/1.1 do,
/// so that nothing behind this knows by which version a message came.
namespace weir::http {

enum class H2Role : std::uint8_t { kServer, kClient };

/// RFC 9113, section 7.
enum class H2Code : std::uint32_t {
  kNoError = 0,
  kProtocolError = 1,
  kInternalError = 2,
  kFlowControlError = 3,
  kSettingsTimeout = 4,
  kStreamClosed = 5,
  kFrameSizeError = 6,
  kRefusedStream = 7,
  kCancel = 8,
  kCompressionError = 9,
  kConnectError = 10,
  kEnhanceYourCalm = 11,
  kInadequateSecurity = 12,
  kHttp11Required = 13,
};

/// What a client says first (RFC 9113, section 3.4).
inline constexpr std::string_view kH2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct H2Counters {
  std::uint64_t sessions_opened = 0;
  std::uint64_t streams_opened = 0;
  std::uint64_t streams_malformed = 0;  ///< reset by us for what they held
  std::uint64_t goaways_received = 0;
  std::array<std::uint64_t, kH2AbuseCount> abuse{};  ///< sessions ended for it
  std::uint32_t sessions = 0;                        ///< now
  std::uint32_t streams = 0;                         ///< now
  std::uint64_t memory_bytes = 0;                    ///< now, of all sessions
};

/// What the sessions of one worker share: a limit on their memory, counters, scratch space.
/// Outlives them.
class H2Shared {
 public:
  explicit H2Shared(std::size_t memory_max = kMemoryMax) : memory_max_{memory_max} {}
  H2Shared(const H2Shared&) = delete;
  H2Shared& operator=(const H2Shared&) = delete;

  [[nodiscard]] const H2Counters& counters() const { return counters_; }

 private:
  friend class H2Session;
  static constexpr std::size_t kMemoryMax = 512UL << 20;

  std::size_t memory_max_;
  H2Counters counters_;
  std::string text_;  // names in lower case, while fields are handed on
};

/// Bytes in at the back, out at the front. Keeps no memory while it is empty.
class H2Bytes {
 public:
  [[nodiscard]] std::span<const std::byte> front() const {
    return std::span{bytes_}.subspan(begin_);
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size() - begin_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  void append(std::span<const std::byte> bytes);
  void consume(std::size_t count);
  void clear() { consume(size()); }

 private:
  std::vector<std::byte> bytes_;
  std::size_t begin_ = 0;
};

/// One stream: a request and its answer. Belongs to its session, and lives until the owner has
/// released it.
struct H2Stream {
  std::int32_t id = 0;
  std::uint64_t owner = 0;  ///< whatever the owner of the session wants to find again

  // What the peer has said. Of a server's stream the request, of a client's the response.
  RequestHead request;
  RequestFraming request_framing;
  ResponseHead response;
  ResponseFraming response_framing;
  std::vector<ResponseHead> interim;  ///< of a client: heads with 1xx that came before
  bool head_complete = false;
  std::optional<Refusal>
      refusal;              ///< of a server: well-formed HTTP/2, but to be answered with this
  bool websocket = false;   ///< of a server: extended CONNECT (RFC 8441), told as a GET
  bool tunnel = false;      ///< of a server: CONNECT of either kind
  HeaderList trailers;      ///< with peer_ended
  bool malformed = false;   ///< reset by us for what the message held
  bool peer_ended = false;  ///< no more comes than what is readable()

  bool closed = false;  ///< over for both sides; what was readable still is
  H2Code close_code{};  ///< with `closed`
  /// Everything that was written has left, and the end with it.
  bool sent_all = false;

 private:
  friend class H2Session;
  H2Bytes in;
  std::optional<std::uint64_t> in_left;  // of a body of a known length: bytes that have not come
  H2Bytes out;
  HeaderList out_trailers;
  std::size_t head_bytes = 0;  // of the head or the trailers that are being read
  std::string authority;       // pseudo fields, while a head is read
  std::string scheme;
  std::string protocol;
  std::string cookies;
  bool head_read = false;     // what comes now are trailers
  bool head_request = false;  // of a client: HEAD
  bool known = false;         // the owner has been told
  bool ready = false;         // stands in the list of those to be told of
  bool submitted = false;     // our head is with nghttp2
  bool out_finished = false;
  bool deferred = false;  // nghttp2 waits for us to have something to send
  bool was_full = false;  // the owner has been told that there is no room
};

struct H2Options {
  H2Role role = H2Role::kServer;
  bool secure = false;  ///< over TLS
  HeadLimits limits{};
  std::uint32_t streams_max = 100;          ///< of a server: what the client may have open
  std::uint32_t stream_window = 64 * 1024;  ///< bytes of a stream that we hold for its reader
  std::uint32_t session_window = 1024 * 1024;
};

/// One HTTP/2 connection, as server or as client. Memory in, memory out: it knows neither sockets
/// nor clocks. The owner feeds what arrived and sends what comes out, and in between deals with the
/// streams that have changed:
///
///   session.receive(bytes, now);
///   while (H2Stream* stream = session.next_ready()) …   // a head, bytes, room or an end
///   for (auto piece = session.output(); !piece.empty(); piece = session.output()) send(piece);
///   if (session.over()) close the connection;
///
/// Flow control: what is not consume()d is not acknowledged, so that a slow reader stops the
/// sender; and what the peer does not let us send fills a stream until room() is 0. Both ends of a
/// stream and the session as a whole are bounded. What a peer does too often ends the session with
/// ENHANCE_YOUR_CALM, counted by name.
///
/// Malformed messages (RFC 9113, section 8.1.1) never reach the owner: their streams are reset.
class H2Session {
 public:
  H2Session(const H2Options& options, H2Shared& shared, Instant now);
  H2Session(const H2Session&) = delete;
  H2Session& operator=(const H2Session&) = delete;
  ~H2Session();

  void receive(std::span<const std::byte> bytes, Instant now);

  /// The longest that output() returns.
  static constexpr std::size_t kPieceMax = 16 * 1024 + 512;
  /// The next bytes to be sent, all of them, before the next call; empty when there are none.
  [[nodiscard]] std::span<const std::byte> output(Instant now);
  [[nodiscard]] bool wants_output() const;

  /// A stream that has changed since it was last returned, or nothing.
  [[nodiscard]] H2Stream* next_ready();
  [[nodiscard]] H2Stream* find(std::int32_t id);

  /// Of a client: whether the peer would take one more stream.
  [[nodiscard]] bool can_open() const;
  /// Sends a head; `body` kNone ends the stream with it. Nothing when can_open() is false.
  [[nodiscard]] H2Stream* open(const RequestHead& head, BodyFraming body);
  /// Of a server: an interim head, and the final one; kNone ends the stream with it.
  void send_interim(H2Stream& stream, const ResponseHead& head);
  void send_head(H2Stream& stream, const ResponseHead& head, BodyFraming body);

  /// Bytes of a body that write() takes now.
  [[nodiscard]] std::size_t room(H2Stream& stream);
  void write(H2Stream& stream, std::span<const std::byte> payload);
  /// The end of our body, with trailers, or none.
  void finish(H2Stream& stream, const HeaderList& trailers);

  /// Of a body whose length the head has told, the last byte comes with peer_ended, and so does a
  /// head that tells 0: until then the length may prove wrong, and whoever had all of the message
  /// would take it for whole (RFC 9113, section 8.1.1). A peer that ends a stream late delays them.
  [[nodiscard]] static std::span<const std::byte> readable(const H2Stream& stream) {
    const auto bytes = stream.in.front();
    const bool has_last = stream.in_left == 0 && !bytes.empty();
    return bytes.first(bytes.size() - (has_last && !stream.peer_ended ? 1 : 0));
  }
  void consume(H2Stream& stream, std::size_t count);
  [[nodiscard]] static bool has_unsent(const H2Stream& stream) { return !stream.out.empty(); }
  /// next_ready() returns it once more.
  void remind(H2Stream& stream);

  /// Of a client: after so many resets it opens no more streams, and ends with those it has.
  /// Servers take many resets for an attack (nghttp2: 1,000 and 33 a second more) and then end the
  /// session with all of its streams; a proxy's resets are those of all its clients together.
  static constexpr std::uint32_t kResetsMax = 100;
  /// Lets go of a stream. What is not complete is reset: with `code`, or, of a server that has said
  /// all, with NO_ERROR (RFC 9113, section 8.1).
  void release(H2Stream& stream, H2Code code = H2Code::kCancel);

  /// The orderly end in two steps (RFC 9113, section 6.8): no stream is lost that was on its way.
  void drain();
  [[nodiscard]] bool draining() const;
  /// The end: nothing is read any more, GOAWAY leaves.
  void terminate(H2Code code);
  /// Nothing more will be read or written; output() may hold the last words.
  [[nodiscard]] bool over() const;
  /// Why the session ended itself; nothing while it has not.
  [[nodiscard]] std::optional<H2Code> failure() const;
  /// The peer is why: an error is what it ended with.
  [[nodiscard]] bool was_wronged() const {
    return failure().value_or(H2Code::kNoError) != H2Code::kNoError;
  }
  /// The code of the peer's last GOAWAY.
  [[nodiscard]] std::optional<H2Code> goaway() const;

  [[nodiscard]] std::size_t streams() const;
  /// A head has begun and not ended.
  [[nodiscard]] bool within_head() const;
  /// Of a server: the stream whose request has begun with it.
  [[nodiscard]] H2Stream* begun();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::http
