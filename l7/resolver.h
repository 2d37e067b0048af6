#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l7/name_book.h"

namespace weir::l7 {

struct ResolverOptions {
  /// Says which servers are asked, and which domains a name may be short for (resolv.conf(5)).
  /// Read again once it has changed.
  std::string file = "/etc/resolv.conf";
  std::string servers = {};  ///< instead of those of the file: "192.0.2.53:53,[2001:db8::53]:53"
  std::uint16_t port = 53;   ///< of those of the file
  Duration timeout = std::chrono::seconds{1};  ///< of the first try; twice as long each further one
  int tries = 3;                               ///< of each server
};

/// Puts the questions of a NameBook to DNS, with c-ares and sockets of the kernel, as every program
/// of the host would: /etc/hosts first, then the servers, CNAMEs followed, TCP where an answer is
/// too long. Without a thread of its own: it works while it is called, by one thread at a time.
class Resolver {
 public:
  [[nodiscard]] static Result<Resolver> create(ResolverOptions options = {});
  Resolver(Resolver&&) noexcept;
  Resolver& operator=(Resolver&&) noexcept;
  ~Resolver();

  [[nodiscard]] NameBook& names();
  [[nodiscard]] const NameBook& names() const;

  /// Asks what is due and takes in what has come. Never waits; to be called again and again.
  void advance(Instant now);
  /// The same on the real clock, until every name has been asked for once or `longest` is over.
  void finish_first_lookups(Duration longest);
  /// The same until something comes, at most so long.
  void wait(Duration longest);

 private:
  struct Impl;
  explicit Resolver(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;  // c-ares keeps its address
};

}  // namespace weir::l7
