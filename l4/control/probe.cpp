#include "l4/control/probe.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "l4/base/bytes.h"
#include "l4/control/probe_grpc.h"
#include "l4/control/probe_http.h"

namespace weir::control {
namespace {

constexpr std::uint16_t kHttpPort = 80, kHttpsPort = 443;

/// What Host and :authority say (RFC 9110, section 7.2): the port only where it is not the
/// scheme's.
std::string authority_of(const ProbeTarget& target) {
  if (!target.check.host.empty()) return target.check.host;
  const std::uint16_t usual = target.check.kind == ProbeKind::kHttps ? kHttpsPort : kHttpPort;
  const std::string host =
      target.vip.is_v4() ? target.vip.text() : fmt::format("[{}]", target.vip.text());
  return target.port.value() == usual ? host : fmt::format("{}:{}", host, target.port.value());
}

/// The host alone: SNI and certificates know no ports.
std::string tls_name_of(const ProbeTarget& target) {
  std::string name = target.check.host.empty() ? target.vip.text() : target.check.host;
  if (name.starts_with('[')) return name.substr(1, name.find(']') - 1);
  const std::size_t colon = name.find(':');
  // An IPv6 address has more than one.
  if (colon != name.npos && name.find(':', colon + 1) == name.npos) name.resize(colon);
  return name;
}

/// Of a socket that could not be opened.
ProbeStart not_started(int error) {
  if (is_shortage(error)) return {};
  return {nullptr, failure(error_text(error))};
}

}  // namespace

ProbeStart Probe::start(const ProbeTarget& target, TlsProbes& tls, Random& random) {
  switch (target.check.kind) {
    case ProbeKind::kTcp:
    case ProbeKind::kHttp:
    case ProbeKind::kHttps:
    case ProbeKind::kGrpc:
      return start_stream(target, tls);
    case ProbeKind::kUdp:
    case ProbeKind::kIcmp:
      return start_datagram(target, random);
  }
  return {};
}

ProbeStart Probe::start_stream(const ProbeTarget& target, TlsProbes& tls) {
  ProbeSocket opened = open_stream_socket(target);
  if (opened.error != 0) return not_started(opened.error);
  std::unique_ptr<Probe> probe{new Probe{target, std::move(opened.fd)}};
  const ProbeKind kind = target.check.kind;
  if (kind == ProbeKind::kHttp || kind == ProbeKind::kHttps)
    probe->exchange_ = make_http_exchange(target.check, authority_of(target));
  if (kind == ProbeKind::kGrpc)
    probe->exchange_ = make_grpc_exchange(target.check, authority_of(target));
  if (kind == ProbeKind::kHttps) {
    auto wrapped = tls.wrap({tls_name_of(target), target.check.verify, target.check.ca_file},
                            std::move(probe->exchange_));
    if (!wrapped) return {nullptr, failure(wrapped.error().text())};
    probe->exchange_ = *std::move(wrapped);
  }
  return {std::move(probe), std::nullopt};
}

ProbeStart Probe::start_datagram(const ProbeTarget& target, Random& random) {
  const bool is_echo = target.check.kind == ProbeKind::kIcmp;
  ProbeSocket opened = is_echo ? open_echo_socket(target) : open_datagram_socket(target);
  if (is_echo && (opened.error == EPERM || opened.error == EACCES))
    return {nullptr, failure("this node may not send echo requests: the prober lacks CAP_NET_RAW, "
                             "and its group is not in net.ipv4.ping_group_range")};
  if (opened.error != 0) return not_started(opened.error);
  std::unique_ptr<Probe> probe{new Probe{target, std::move(opened.fd)}};
  std::vector<std::byte> request;
  if (is_echo) {
    probe->is_raw_ = opened.is_raw;
    probe->echo_ = {.family = target.backend.family(),
                    .identifier = static_cast<std::uint16_t>(opened.is_raw ? random.next() : 0),
                    .nonce = random.next()};
    request = echo_request_bytes(probe->echo_);
  } else {
    const auto bytes = as_bytes(target.check.send);
    request.assign(bytes.begin(), bytes.end());
  }
  if (::send(probe->fd(), request.data(), request.size(), 0) < 0) return not_started(errno);
  return {std::move(probe), std::nullopt};
}

std::optional<ProbeVerdict> Probe::on_ready() {
  const ProbeKind kind = target_.check.kind;
  return kind == ProbeKind::kUdp || kind == ProbeKind::kIcmp ? on_datagrams() : on_stream();
}

std::optional<ProbeVerdict> Probe::on_stream() {
  if (!is_connected_) {
    if (const int error = pending_error(socket_); error != 0) return failure(error_text(error));
    is_connected_ = true;
    if (!exchange_) return ProbeVerdict{true, "connected"};
  }
  if (auto verdict = send_output()) return verdict;
  // Until the socket is empty, as edge-triggered events want it; kAnswerBytesMax bounds the turns.
  for (std::array<std::byte, 16 * 1024> buffer;;) {
    const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (size == 0) return exchange_->on_end();
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return std::nullopt;
    if (size < 0) return failure(error_text(errno));
    received_bytes_ += static_cast<std::size_t>(size);
    auto verdict = exchange_->on_bytes(std::span{buffer}.first(static_cast<std::size_t>(size)));
    if (verdict) return verdict;
    if (received_bytes_ > kAnswerBytesMax)
      return failure(fmt::format("the answer is longer than {} bytes", kAnswerBytesMax));
    if ((verdict = send_output())) return verdict;
  }
}

std::optional<ProbeVerdict> Probe::send_output() {
  unsent_ += exchange_->take_output();
  while (!unsent_.empty()) {
    const ssize_t size = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return std::nullopt;
    // It may have answered before it went: what it said tells more, and reading comes next.
    if (size < 0 && errno == EPIPE) return std::nullopt;
    if (size < 0) return failure(error_text(errno));
    unsent_.erase(0, static_cast<std::size_t>(size));
  }
  return std::nullopt;
}

std::optional<ProbeVerdict> Probe::on_datagrams() {
  // Others' answers that a raw socket sees are bounded by what arrives in a turn of the loop.
  constexpr int kDatagramsMax = 64;
  std::array<std::byte, 64 * 1024> buffer;
  for (int i = 0; i < kDatagramsMax; ++i) {
    const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) return std::nullopt;
    if (size < 0 && errno == ECONNREFUSED) return failure("refused: ICMP port unreachable");
    if (size < 0) return failure(error_text(errno));
    if (auto verdict = judge_datagram(std::span{buffer}.first(static_cast<std::size_t>(size))))
      return verdict;
  }
  return std::nullopt;
}

std::optional<ProbeVerdict> Probe::judge_datagram(std::span<const std::byte> bytes) const {
  if (target_.check.kind == ProbeKind::kIcmp) {
    if (!is_echo_reply_to(echo_, bytes, is_raw_ && target_.backend.is_v4())) return std::nullopt;
    return ProbeVerdict{true, "echo reply"};
  }
  const std::string_view answer = as_text(bytes);
  if (answer.starts_with(target_.check.expect)) return ProbeVerdict{true, "answered"};
  return failure(fmt::format("the answer is {}, expected {}", quoted_start(answer),
                             quoted_start(target_.check.expect)));
}

ProbeVerdict Probe::on_timeout() const {
  const std::uint32_t timeout_ms = target_.check.timeout_ms;
  if (target_.check.kind == ProbeKind::kUdp && target_.check.expect.empty())
    return {true, fmt::format("not refused within {} ms", timeout_ms)};
  if (is_connected_)
    return failure(fmt::format("connected, but no complete answer within {} ms", timeout_ms));
  return failure(fmt::format("no answer within {} ms", timeout_ms));
}

}  // namespace weir::control
