#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weir::testing {

/// One request as bytes on one side of the proxy say it.
struct BridgedMessage {
  std::string method{};
  std::string target{};               ///< of clients: normalised
  std::string host{};                 ///< likewise
  std::vector<std::string> fields{};  ///< "name: value" in order; names in lower case
  std::vector<std::string> trailers{};
  std::string body{};  ///< without its framing, as far as it has come
  bool complete = false;
  bool routable = true;      ///< its target and host have one meaning
  bool cancelled = false;    ///< reset by who sent it
  bool last = false;         ///< says that its connection ends with it
  std::uint32_t stream = 0;  ///< of HTTP/2

  [[nodiscard]] bool has(std::string_view name) const;
  /// Of the first field of that name; empty without one.
  [[nodiscard]] std::string_view value(std::string_view name) const;
};

/// What a client's bytes mean, in order, up to where they stop meaning anything. HTTP/1 is read by
/// l7/http, which others hold against llhttp; HTTP/2 by a reader that knows frames and nothing of
/// states, and so reads more than a session lets pass.
std::vector<BridgedMessage> read_client_h1(std::string_view bytes);
std::vector<BridgedMessage> read_client_h2(std::string_view bytes);

/// What an endpoint receives, by the letter of RFC 9112 or 9113 and with no tolerance at all. Ends
/// the program at anything that could be read in two ways, or that none of our writers writes.
class EndpointReader {
 public:
  virtual ~EndpointReader() = default;
  /// More bytes of one connection.
  virtual void feed(std::string_view bytes) = 0;
  [[nodiscard]] const std::vector<BridgedMessage>& messages() const { return messages_; }

 protected:
  std::vector<BridgedMessage> messages_;
};
std::unique_ptr<EndpointReader> endpoint_reader_h1();
std::unique_ptr<EndpointReader> endpoint_reader_h2();

/// Says what is wrong, with the bytes, and ends the program.
[[noreturn]] void bridging_failure(std::string_view what, std::string_view bytes);

}  // namespace weir::testing
