#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::http::testing {

/// One vector of tests/l7/http/vectors_h2: frames, and what they mean. Files hold blocks of lines
/// "word value", separated by empty lines; '#' begins a comment line, and a line that begins with a
/// space goes on with the word above: one more frame (tests/support/h2_frames.h).
struct H2Vector {
  std::string name;  ///< a sentence; becomes the test's name
  std::string rfc;   ///< where it is said: number and section
  bool opening = true;
  std::string asks = "GET";  ///< answers: the method that is answered
  std::vector<std::string> frames;
  /// nothing: neither a message nor an error. accept METHOD TARGET, or accept STATUS…: a message.
  /// websocket TARGET: an extended CONNECT. refuse STATUS: a request that is answered with that.
  /// reset STREAM CODE, goaway CODE: what we send. closed CODE: what the peer has done to our
  /// stream. "… then …": one after the other.
  std::string expect;
  std::vector<std::string> fields;  ///< in order; not compared when none is listed
  std::string body;
  std::vector<std::string> trailers;

  // Of the session alone.
  std::uint32_t window = 0;              ///< of our connection, when it is another than usual
  std::optional<std::size_t> replies{};  ///< servers: stream 1 is answered by so many bytes
  std::optional<std::size_t> writes{};   ///< clients: so many follow a POST, once it has SETTINGS
  std::size_t leaves = 0;                ///< and of them so many leave
  /// Frames that we send: the beginning of H2Frame::text(), and "| " the beginning of the payload.
  std::vector<std::string> answers;
  std::string opens;  ///< clients: "yes" or "no", whether stream 3 may be opened then; then it is

  /// All that the peer sends, byte for byte.
  [[nodiscard]] std::string bytes(bool from_client) const;
};

/// The vectors of one file. Ends the program, naming the line, where it cannot be read.
std::vector<H2Vector> load_h2_vectors(std::string_view file);

/// For gtest, which would print bytes.
std::ostream& operator<<(std::ostream& out, const H2Vector& vector);

}  // namespace weir::http::testing
