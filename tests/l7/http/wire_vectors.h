#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace weir::http::testing {

/// One vector of tests/l7/http/vectors: bytes, and what they mean. Files hold blocks of lines
/// "word value", separated by empty lines; '#' begins a comment line, and a line that begins with
/// a space goes on with the value above. In values stand \r \n \t \0 \s (a space) \\ \xHH,
/// \{N*text} for text N times, and \via(1.1 host) for the fields that the proxy adds to a request
/// of that version for that host.
struct WireVector {
  std::string name;  ///< a sentence; becomes the test's name
  std::string rfc;   ///< where it is said: number and section
  // Requests.
  std::string sends;                ///< what the client sends, all at once or byte by byte
  std::string reads;                ///< method and normalised target; only with expect ok
  std::vector<std::string> fields;  ///< "name: value" in order; not compared when none is listed
  std::size_t left = 0;             ///< bytes behind the first request
  // Answers.
  std::string method = "GET";  ///< that is answered
  std::string answers;         ///< what the backend sends
  bool closes = false;         ///< "then close": it closes behind that
  // Both.
  std::string expect;  ///< requests: ok, incomplete or the status of the refusal; answers: the
                       ///< status that goes to the client, or broken when it cannot end in order
  std::string body;    ///< without its framing
  /// Requests: all that backends receive. Answers: whether the connection is kept or dropped.
  std::string upstream;
  /// Requests: the statuses of all that the client gets. Answers: its bytes, with a status in
  /// `expect` that is not our own.
  std::string client;
};

/// The vectors of one file. Ends the program, naming the line, where it cannot be read.
std::vector<WireVector> load_vectors(std::string_view file);

/// For gtest, which would print bytes.
std::ostream& operator<<(std::ostream& out, const WireVector& vector);

}  // namespace weir::http::testing
