#pragma once

#include <nghttp2/nghttp2.h>

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "l7/http/h2_session.h"

/// Inside of H2Session; included by its sources only.
namespace weir::http {

/// Bytes of bodies that a session holds for a peer whose windows are closed, in all of its streams
/// together. Beyond it each stream gets no more than kOutMinimum, so that one that is not read
/// cannot starve the others.
inline constexpr std::size_t kOutSessionMax = 1024 * 1024;
inline constexpr std::size_t kOutStreamMax = 64 * 1024;
inline constexpr std::size_t kOutMinimum = 4 * 1024;
/// Memory of one session: what it holds of bodies, and all that nghttp2 needs.
inline constexpr std::size_t kSessionMemoryMax = 16UL * 1024 * 1024;
/// Frames that wait to be sent. A peer that makes us answer and does not read gets no further.
inline constexpr std::size_t kQueueMax = 1000;
/// A head or trailers that unpack to so many times the limit end the session: to keep the
/// compression context they must be read to their end, and that is work.
inline constexpr std::size_t kHeaderBombFactor = 4;
/// Interim heads of one answer that nobody has taken yet.
inline constexpr std::size_t kInterimMax = 16;
/// CONTINUATION frames of one head. nghttp2 has such a limit too, but counts the pieces in which
/// such a frame arrives.
inline constexpr std::size_t kContinuationsMax = 8;
inline constexpr std::size_t kContinuationPiecesMax = 1000;
/// DATA shorter than this although more was there is a crumb.
inline constexpr std::size_t kCrumbBytes = 64;

/// The heads of the frames that a peer sends (RFC 9113, section 4.1), however its bytes are cut:
/// nghttp2 does not tell of DATA that it ignores.
class H2FrameHeads {
 public:
  /// Begins behind so many bytes.
  explicit H2FrameHeads(std::size_t skip) : skip_{skip} {}

  /// Goes on behind the next head, or to the end of the bytes; how far that is.
  std::size_t advance(std::span<const std::byte> bytes);
  /// The last byte that was taken is that of a head.
  [[nodiscard]] bool complete() const { return size_ == head_.size(); }
  [[nodiscard]] std::uint8_t type() const { return static_cast<std::uint8_t>(head_[3]); }
  [[nodiscard]] std::int32_t stream() const {
    return static_cast<std::int32_t>(number_at(5, 4) & 0x7fff'ffff);
  }

 private:
  [[nodiscard]] std::uint32_t number_at(std::size_t at, std::size_t size) const {
    std::uint32_t number = 0;
    for (const std::byte byte : std::span{head_}.subspan(at, size))
      number = number << 8 | static_cast<std::uint32_t>(byte);
    return number;
  }

  std::size_t skip_;
  std::size_t size_ = 0;  // of the head, as far as it has come
  std::array<std::byte, 9> head_{};
};

struct H2Session::State {
  State(const H2Options& options, H2Shared& shared, Instant now);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();

  /// A stream that is over.
  struct Closed {
    std::int32_t id = 0;
    bool by_us = false;  // and what its peer has sent before it knew is its good right
  };

  // h2_session_input.cpp: what nghttp2 tells us of what has arrived.
  static void set_input_callbacks(nghttp2_session_callbacks* callbacks);
  static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* frame, void* self);
  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* self);
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                       std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                       std::uint8_t flags, void* self);
  static int on_invalid_header(nghttp2_session*, const nghttp2_frame* frame,
                               const std::uint8_t* name, std::size_t name_size,
                               const std::uint8_t* value, std::size_t value_size,
                               std::uint8_t flags, void* self);
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* self);
  static int on_invalid_frame(nghttp2_session*, const nghttp2_frame* frame, int error, void* self);
  static int on_data(nghttp2_session*, std::uint8_t flags, std::int32_t id,
                     const std::uint8_t* data, std::size_t size, void* self);
  static int on_stream_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* self);
  int take_frame_header(const nghttp2_frame_hd& frame);
  int check_headers(const nghttp2_frame_hd& frame);
  [[nodiscard]] bool is_over(std::int32_t id);
  [[nodiscard]] Closed* find_closed(std::int32_t id);
  int refuse_late_frame(std::int32_t id);
  int connection_error(H2Code code);
  void note_closed(std::int32_t id, bool by_us);
  int take_field(H2Stream& stream, Field field);
  int take_pseudo_field(H2Stream& stream, Field field);
  void take_request_field(H2Stream& stream, Field field);
  int take_trailer(H2Stream& stream, Field field);
  int end_headers(H2Stream& stream, bool ends);
  int end_request_head(H2Stream& stream, bool ends);
  int end_response_head(H2Stream& stream, bool ends);
  int end_of_peer(H2Stream& stream);
  /// The stream is reset; the value is what a callback for a field returns then.
  int malformed(H2Stream& stream);
  /// The session ends; the value is what a callback returns then.
  int abused(H2Abuse what);

  // h2_session_output.cpp
  static void set_output_callbacks(nghttp2_session_callbacks* callbacks);
  static int on_sent(nghttp2_session*, const nghttp2_frame* frame, void* self);
  static int on_not_sent(nghttp2_session*, const nghttp2_frame* frame, int error, void* self);
  static ssize_t read_body(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t size,
                           std::uint32_t* flags, nghttp2_data_source* source, void* self);
  void begin_fields();
  void add_field(std::string_view name, std::string_view value);
  void add_fields(const HeaderList& fields);
  void resume(H2Stream& stream);

  // h2_session.cpp
  bool feed(std::span<const std::byte> bytes);
  void fail(int error);
  void submit_settings();
  void submit_goaway();
  H2Stream* find(std::int32_t id);
  void mark(H2Stream& stream);
  void erase(H2Stream& stream);
  bool hold(H2Bytes& bytes, std::span<const std::byte> more);
  void let_go(H2Bytes& bytes, std::size_t count);
  bool charge(std::size_t bytes);
  void credit(std::size_t bytes);
  [[nodiscard]] bool is_server() const { return options.role == H2Role::kServer; }

  H2Options options;
  H2Shared& shared;
  nghttp2_session* session = nullptr;
  H2FrameHeads heads;
  std::unordered_map<std::int32_t, H2Stream> streams;
  std::deque<std::int32_t> ready;
  std::vector<nghttp2_nv> fields;
  std::size_t memory = 0;
  std::size_t out_bytes = 0;
  Instant now;
  std::optional<H2Abuse> abuse;
  std::optional<H2Code> failure;
  std::optional<H2Code> escalation;  // an error of a stream that is one of the session
  std::array<Closed, 256> closed{};  // the latest of those that are over
  std::size_t closed_at = 0;
  std::int32_t reset_id = 0;      // whose reset is just leaving
  std::uint32_t resets_sent = 0;  // of a client
  std::int32_t last_id = 0;       // the highest that the client has used
  std::size_t continuations = 0;  // of the head that is being read
  std::int32_t head_open = 0;     // the stream whose head or trailers are being read
  bool draining = false;
  bool goaway_sent = false;
  std::optional<H2Code> goaway_received;
  bool broken = false;  // nghttp2 can neither read nor write any more

  // What honest clients do stays far below these: a reset for a page that was left, a PING or a
  // WINDOW_UPDATE now and then beyond those that answer DATA, for which the budgets are refunded.
  RateBudget resets{200, 20};
  RateBudget pings{200, 20};
  RateBudget settings{20, 1};
  RateBudget priorities{1000, 50};
  RateBudget window_updates{2000, 100};
  RateBudget empty_frames{100, 10};
  RateBudget unknown_frames{100, 10};
  RateBudget crumbs{1000, 20};
};

}  // namespace weir::http
