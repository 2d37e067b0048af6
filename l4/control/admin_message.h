#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

#include "l4/control/admin.h"

/// The HTTP/1.1 of the admin server as bytes: strict, without sockets or state (RFC 9110, RFC
/// 9112). One request is one connection, so nothing here has to find where the next one begins.
namespace weir::control {

inline constexpr std::string_view kProblemType = "application/problem+json";

inline constexpr std::size_t kHeadBytesMax = 32 * 1024;  ///< request line and fields, all together
inline constexpr std::size_t kTargetBytesMax = 4096;
inline constexpr std::size_t kFieldsMax = 100;
inline constexpr std::size_t kQueryPairsMax = 32;
/// The largest body: a configuration file, as JSON text.
inline constexpr std::size_t kRequestBytesMax = kConfigBytesMax + 1024 * 1024;

/// What came before the body.
struct RequestHead {
  AdminRequest request;        ///< without its body
  bool body_is_wanted = true;  ///< false for HEAD: the reply's fields alone
  bool is_http_1_0 = false;    ///< knows no chunks
  bool expects_continue = false;
  bool is_chunked = false;
  std::size_t content_length = 0;

  [[nodiscard]] bool has_body() const { return is_chunked || content_length > 0; }
};

/// `head` ends with the empty line. What breaks a rule gets the reply that says which.
std::variant<RequestHead, AdminReply> parse_request_head(std::string_view head);

/// Takes chunks apart (RFC 9112, section 7.1); extensions and trailers are read over.
class ChunkedBody {
 public:
  enum class State { kMore, kDone, kBroken, kTooLarge };

  /// Eats `bytes`, which may end anywhere. What is behind the end is not looked at.
  State take(std::string_view bytes);

  [[nodiscard]] const std::string& body() const { return body_; }
  [[nodiscard]] std::string take_body() { return std::move(body_); }

 private:
  enum class Part {
    kSize,
    kExtension,
    kSizeEnd,
    kData,
    kDataEnd,
    kDataEndLf,
    kTrailer,
    kTrailerLf
  };
  State take_size(char c);
  State take_trailer(char c);

  Part part_ = Part::kSize;
  std::size_t left_ = 0;         // of the chunk; while its size is read, the size so far
  std::size_t digits_ = 0;       // of the size
  std::size_t line_bytes_ = 0;   // of an extension, of one line of trailers
  std::size_t extra_bytes_ = 0;  // of all extensions and trailers
  std::string body_;
};

inline constexpr std::size_t kBodyDepthMax = 64;
/// Whether lists and maps of a JSON text stand deeper in each other than that. Copying and printing
/// a value takes a piece of the stack for each level, so that a body of brackets would end the
/// daemon.
bool is_nested_too_deep(std::string_view json);

/// The words of the status (RFC 9110, section 15).
std::string_view reason_phrase(int status);

enum class Framing { kLength, kChunks, kClose };
/// Status line and fields of the reply, up to the empty line.
std::string response_head(const AdminReply& reply, Framing framing);

}  // namespace weir::control
