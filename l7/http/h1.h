#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "l7/http/message.h"
#include "l7/http/semantics.h"

/// HTTP/1.0 and 1.1 on the wire (RFC 9112): bytes to heads and bodies and back. Strict: every
/// line ends in CRLF, nothing is folded, trimmed or guessed.
namespace weir::http {

/// Reached while reading, not after: a peer cannot make us hold more.
struct HeadLimits {
  std::uint32_t header_bytes = 32 * 1024;  ///< the whole head, else 431
  std::uint32_t fields_max = 100;          ///< else 431
  std::uint32_t target_bytes = 8 * 1024;   ///< else 414
};

struct ParseResult {
  enum class Outcome : std::uint8_t {
    kIncomplete,  ///< call again with the same bytes and more behind them
    kComplete,    ///< head() and framing() are valid; the body starts at `consumed`
    kError,       ///< answer with `refusal` and close
  };
  Outcome outcome = Outcome::kIncomplete;
  std::size_t consumed = 0;  ///< bytes of the head; with kComplete
  Refusal refusal{};         ///< with kError
};

/// How far the lines of a head have been found in a buffer that grows. Positions only, so the
/// buffer may move between calls, and no byte is searched twice.
struct LineScanner {
  /// Control bytes and line ends other than CRLF are refused where they stand, so that an error
  /// does not depend on how the bytes were cut.
  enum class Outcome : std::uint8_t { kLine, kIncomplete, kTooLong, kBareCr, kBareLf, kControl };

  std::size_t line_begin = 0;  ///< of the next line
  std::size_t scanned = 0;     ///< where to look on: what is before it is plain text or in `stops`
  std::size_t stops_at = 0;
  std::uint64_t stops = 0;  ///< bit n: a control byte at stops_at + n, not yet dealt with
};

/// Parses request heads from a buffer in which the caller collects what arrives. One per
/// connection:
///
///   const ParseResult result = parser.parse(buffer);  // starts at the request's first byte
///   if (result.outcome == ParseResult::Outcome::kComplete) {
///     …                                               // head(), framing(); drop result.consumed
///     parser.reset();                                 // before the next request
///   }
///
/// The head owns its bytes, so the buffer may be reused at once. One empty line before the request
/// is skipped (RFC 9112, section 2.2). Allocates only until it has seen the longest head.
class RequestParser {
 public:
  explicit RequestParser(HeadLimits limits = {}) : limits_{limits} {}

  [[nodiscard]] ParseResult parse(std::span<const std::byte> buffer);
  void reset();

  /// Valid after kComplete, until reset(). The owner may edit the head on its way to the backend.
  [[nodiscard]] RequestHead& head() { return head_; }
  [[nodiscard]] const RequestHead& head() const { return head_; }
  [[nodiscard]] const RequestFraming& framing() const { return framing_; }

 private:
  [[nodiscard]] std::size_t line_limit() const {
    return have_request_line_ ? limits_.header_bytes : request_line_limit();
  }
  [[nodiscard]] std::size_t request_line_limit() const;
  [[nodiscard]] bool has_long_method(std::string_view text) const;
  [[nodiscard]] std::optional<Refusal> refusal_of(LineScanner::Outcome outcome) const;
  [[nodiscard]] std::optional<Refusal> take_first_line(std::string_view line);
  [[nodiscard]] std::optional<Refusal> take_request_line(std::string_view line);
  [[nodiscard]] std::optional<Refusal> finish(std::string_view head_text);

  HeadLimits limits_;
  LineScanner scanner_;
  bool leading_line_skipped_ = false;
  bool have_request_line_ = false;
  RequestHead head_;
  RequestFraming framing_;
};

/// The same for the answers of a backend; all refusals are 502. Does not skip interim responses:
/// framing().interim says that another head follows.
class ResponseParser {
 public:
  explicit ResponseParser(HeadLimits limits = {}) : limits_{limits} {}

  /// The method of the request that is being answered decides whether a body follows.
  [[nodiscard]] ParseResult parse(std::span<const std::byte> buffer,
                                  std::string_view request_method);
  void reset();

  [[nodiscard]] ResponseHead& head() { return head_; }
  [[nodiscard]] const ResponseHead& head() const { return head_; }
  [[nodiscard]] const ResponseFraming& framing() const { return framing_; }

 private:
  [[nodiscard]] std::optional<Refusal> take_status_line(std::string_view line);

  HeadLimits limits_;
  LineScanner scanner_;
  bool have_status_line_ = false;
  ResponseHead head_;
  ResponseFraming framing_;
};

inline constexpr std::size_t kChunkExtensionBytesMax = 256;  ///< of one chunk
inline constexpr std::size_t kTrailerBytesMax = 8 * 1024;    ///< of one body
inline constexpr std::size_t kTrailerFieldsMax = 100;

/// Takes a body apart as it arrives. Payload is a view into the input, so that it can be passed on
/// without a copy. Chunk extensions are checked, bounded and dropped. Trailers are checked, bounded
/// and kept apart: merging them into a head is an attack.
///
///   for (;;) {
///     const BodyDecoder::Step step = decoder.decode(input);  // then drop step.consumed of it
///     kPayload: forward step.payload, go on;  kNeedMore: wait for more input;
///     kDone: what follows is the next message;  kError: step.reason, close both sides
///   }
class BodyDecoder {
 public:
  enum class State : std::uint8_t { kNeedMore, kPayload, kDone, kError };
  struct Step {
    State state = State::kNeedMore;
    std::size_t consumed = 0;              ///< bytes to drop from the front; the payload is in them
    std::span<const std::byte> payload{};  ///< with kPayload, never empty
    std::string_view reason{};             ///< with kError; a literal
  };

  BodyDecoder() = default;  ///< no body: done at once
  explicit BodyDecoder(BodyFraming framing) { begin(framing); }
  /// Starts over with the next body; allocates nothing that an earlier one had not.
  void begin(BodyFraming framing);

  /// At most one piece of payload per call. An empty input is fine: it asks whether this is the
  /// end.
  [[nodiscard]] Step decode(std::span<const std::byte> input);
  /// Nothing is missing.
  [[nodiscard]] bool done() const { return phase_ == Phase::kDone; }
  /// What stood behind a chunked body. Valid once done().
  [[nodiscard]] const HeaderList& trailers() const { return trailers_; }
  /// Bytes of payload to come for certain: of the body, where its length is known, or of the chunk.
  [[nodiscard]] std::uint64_t promised() const {
    return phase_ == Phase::kLength || phase_ == Phase::kChunk ? remaining_ : 0;
  }
  /// Whether the peer may close here without having cut the body short.
  [[nodiscard]] bool may_close_here() const { return done() || phase_ == Phase::kUntilClose; }

 private:
  enum class Phase : std::uint8_t {
    kDone,
    kError,
    kLength,
    kUntilClose,
    kSize,       // before or within the chunk-size digits
    kExtension,  // after ';' up to CR
    kSizeLf,     // the LF that ends the size line
    kChunk,      // chunk data
    kChunkCr,    // the CRLF after chunk data
    kChunkLf,
    kTrailerStart,  // first byte of a trailer line, or the CR of the last line
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kLastLf,
  };
  [[nodiscard]] Step take_payload(std::span<const std::byte> input, std::size_t framing_bytes);
  [[nodiscard]] std::string_view advance(char c);
  [[nodiscard]] std::string_view advance_size(char c);
  [[nodiscard]] std::string_view advance_trailer(char c);
  [[nodiscard]] std::string_view take_trailer();

  Phase phase_ = Phase::kDone;
  std::uint8_t digits_ = 0;
  std::uint16_t line_bytes_ = 0;  // of the chunk extension; of all trailers
  std::uint64_t remaining_ = 0;   // of the body or the chunk
  std::string trailer_line_;      // as far as it has come
  HeaderList trailers_;
};

// Writers. `out` keeps its capacity between messages. Both always say HTTP/1.1, and write our own
// framing: Content-Length and Transfer-Encoding of the head are never copied, but for the
// Content-Length of a response without a body, which describes what GET would have returned.

void append_request_head(std::vector<std::byte>& out, const RequestHead& head, BodyFraming body);
void append_response_head(std::vector<std::byte>& out, const ResponseHead& head, BodyFraming body);

/// Around each piece of payload of a chunked body; `size` is not 0.
void append_chunk_header(std::vector<std::byte>& out, std::size_t size);
void append_chunk_end(std::vector<std::byte>& out);
/// Ends a chunked body, with those of the trailers that the list `announced` names.
void append_last_chunk(std::vector<std::byte>& out, const HeaderList& trailers,
                       std::string_view announced);
/// The most that append_last_chunk() appends.
inline constexpr std::size_t kLastChunkBytesMax = kTrailerBytesMax + kTrailerFieldsMax + 8;

}  // namespace weir::http
