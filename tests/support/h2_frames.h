#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weir::testing {

/// HTTP/2 frames as bytes and back, by hand, so that they can also be wrong.
inline constexpr std::string_view kH2ClientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct H2Frame {
  std::uint8_t type = 0;
  std::uint8_t flags = 0;
  std::uint32_t stream = 0;
  std::string payload;
  /// Of HEADERS and CONTINUATION: the fields that end here, "name: value" each.
  std::vector<std::string> fields{};

  [[nodiscard]] bool ends_stream() const { return type <= 1 && (flags & 1) != 0; }
  [[nodiscard]] std::string field(std::string_view name) const;
  /// "RST_STREAM 1 PROTOCOL_ERROR", "HEADERS 1 end :status: 200, …", "DATA 1 5 bytes".
  [[nodiscard]] std::string text() const;
};

std::string h2_frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
                     std::string_view payload);
/// Fields without compression, in the order given; "name: value" each.
std::string h2_fields(const std::vector<std::string>& fields);

/// One frame, or more of them, as a person writes it:
///
///   preface                       settings [ack] [number=value…]
///   headers STREAM [end] [more] [pad N] [priority] | name: value | …   ("get": the usual four)
///   continuation STREAM [more] | …            data STREAM [end] [pad N] [| text]
///   rst STREAM CODE      ping [ack]           goaway LAST CODE
///   window STREAM N      priority STREAM      push STREAM PROMISED | …
///   frame TYPE FLAGS STREAM [| payload]       bytes | …
///
/// "length N" behind any of them makes the frame say so, whatever it holds. Codes are numbers. Text
/// has the escapes \r \n \t \0 \s \\ \xHH and \{N*text}. An unknown word ends the program.
std::string h2_bytes(std::string_view line);

std::string_view h2_code_name(std::uint32_t code);

/// Takes a byte stream apart, with the one compression context that it has.
class H2Reader {
 public:
  H2Reader();
  ~H2Reader();
  H2Reader(const H2Reader&) = delete;
  H2Reader& operator=(const H2Reader&) = delete;

  /// Of a client's bytes: the preface stands in front.
  void expect_preface() { skip_ = kH2ClientPreface.size(); }
  void feed(std::string_view bytes);
  std::vector<H2Frame> frames;  ///< complete ones
  /// All bodies of a stream's DATA, without padding.
  [[nodiscard]] std::string body(std::uint32_t stream) const;
  /// What the stream's HEADERS say, a line each.
  [[nodiscard]] std::string heads(std::uint32_t stream) const;
  [[nodiscard]] bool ended(std::uint32_t stream) const;
  /// The text of the first frame of that type and stream, or nothing.
  [[nodiscard]] std::string first(std::uint8_t type, std::uint32_t stream) const;

 private:
  struct Inflater;
  std::string pending_;
  std::string block_;
  std::size_t skip_ = 0;
  std::unique_ptr<Inflater> inflater_;
};

}  // namespace weir::testing
