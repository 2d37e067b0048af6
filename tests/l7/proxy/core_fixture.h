#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/proxy_world.h"

namespace weir::proxy {

using namespace std::chrono_literals;
using testing::answering;
using testing::Backend;
using testing::first_message;
using testing::pattern_text;
using testing::Peer;
using testing::ProxyWorld;
using testing::Then;

inline constexpr std::string_view kOk =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";

/// What the proxy tells every backend about itself and the client.
inline std::string forwarded(std::string_view scheme = "http", std::string_view version = "1.1") {
  return fmt::format(
      "Via: {1} weir\r\nX-Forwarded-For: 10.0.0.100\r\nX-Forwarded-Proto: {0}\r\n"
      "X-Forwarded-Host: shop.example\r\n"
      "Forwarded: for=10.0.0.100;host=\"shop.example\";proto={0}\r\n",
      scheme, version);
}

inline std::string request(std::string_view method = "GET", std::string_view fields = "",
                           std::string_view body = "") {
  return fmt::format("{} /app HTTP/1.1\r\nHost: shop.example\r\n{}\r\n{}", method, fields, body);
}

/// The same request as a backend sees it; `framing` comes last.
inline std::string at_backend(std::string_view method = "GET", std::string_view fields = "",
                              std::string_view framing = "", std::string_view body = "") {
  return fmt::format("{} /app HTTP/1.1\r\nHost: shop.example\r\n{}{}{}\r\n{}", method, fields,
                     forwarded(), framing, body);
}
/// A GET that came as HTTP/1.0; it goes on as 1.1.
inline std::string at_backend_from_10() {
  return fmt::format("GET /app HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", forwarded("http", "1.0"));
}

/// What the proxy answers by itself.
inline std::string own_answer(std::string_view status, std::string_view fields = "") {
  return fmt::format("HTTP/1.1 {}\r\nContent-Type: text/plain\r\n{}Content-Length: {}\r\n\r\n{}\n",
                     status, fields, status.size() + 1, status);
}
inline std::string last_answer(std::string_view status) {
  return own_answer(status, "Connection: close\r\n");
}

/// Small TCP buffers, so that what is in flight between two ends stays far below a body of 1 MiB,
/// and a short TIME-WAIT, since every test waits for its end.
inline ProxyWorld::Options small_buffers() {
  ProxyWorld::Options options;
  options.worker.receive_buffer_bytes = options.worker.send_buffer_bytes = 64 * 1024;
  options.world.receive_buffer_bytes = options.world.send_buffer_bytes = 16 * 1024;
  options.worker.time_wait = options.world.time_wait = 2s;
  return options;
}

/// A worker in its world, and behind every test the question whether anything is left over.
class CoreFixture {
 protected:
  void check_nothing_is_left() {
    world_.hang_up();
    EXPECT_EQ(world_.left_over(), "");
  }

  /// Whatever has been logged since the last call.
  std::vector<nlohmann::json> log() {
    const std::string text = world_.drain_log();
    std::vector<nlohmann::json> lines;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      lines.push_back(nlohmann::json::parse(text.substr(at, end - at)));
      at = end + 1;
    }
    return lines;
  }

  /// "200 ok": status and reason of every line since the last call, with commas.
  std::string outcomes() {
    std::string text;
    for (const auto& line : log())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", line["status"].get<int>(),
                          line["reason"].get<std::string>());
    return text;
  }

  [[nodiscard]] std::uint64_t count(Reason reason) const {
    return world_.report().core.reasons[static_cast<std::size_t>(reason)];
  }

  /// One backend, and everything goes to it.
  Backend& serve(testing::Handler handler) {
    Backend& backend = world_.add_backend(8001, std::move(handler));
    world_.install(ProxyWorld::model_for({backend.endpoint}));
    return backend;
  }

  /// One backend behind one rule for everything, in a model that `edit` changes.
  Backend& serve_with(const std::function<void(control::Model&)>& edit,
                      testing::Handler handler = answering(std::string{kOk})) {
    Backend& backend = world_.add_backend(8001, std::move(handler));
    control::Model model = ProxyWorld::model_for({backend.endpoint});
    edit(model);
    world_.install(model);
    return backend;
  }

  Peer& connect_and_send(std::string_view bytes) {
    Peer& client = world_.connect();
    client.send(bytes);
    return client;
  }

  ProxyWorld world_{small_buffers()};
};

class ProxyCore : public CoreFixture, public ::testing::Test {
 protected:
  void TearDown() override { check_nothing_is_left(); }
};

}  // namespace weir::proxy
