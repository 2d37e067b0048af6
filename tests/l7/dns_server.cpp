#include "tests/l7/dns_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <optional>

#include "l4/base/assert.h"

namespace weir::testing {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::uint16_t kTypeA = 1;
constexpr std::uint16_t kTypeAaaa = 28;
constexpr std::uint16_t kTypeCname = 5;

struct Question {
  std::string name;
  wire::Family family{};
  std::string_view bytes;  // as they stand in the message
};

std::string u16(std::uint32_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string u32(std::uint32_t value) { return u16(value >> 16) + u16(value & 0xffff); }

std::string name_bytes(std::string_view name) {
  std::string bytes;
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    bytes += static_cast<char>(label.size());
    bytes += label;
    name.remove_prefix(std::min(label.size() + 1, name.size()));
  }
  return bytes + '\0';
}

/// Of well-formed questions, which is what c-ares sends.
std::optional<Question> question_of(std::string_view message) {
  Question question;
  std::size_t at = kHeaderBytes;
  while (at < message.size() && message[at] != 0) {
    const auto length = static_cast<std::uint8_t>(message[at]);
    if (!question.name.empty()) question.name += '.';
    question.name += message.substr(at + 1, length);
    at += length + std::size_t{1};
  }
  if (at + 5 > message.size()) return std::nullopt;
  const auto type = static_cast<std::uint8_t>(message[at + 2]);
  if (type != kTypeA && type != kTypeAaaa) return std::nullopt;
  question.family = type == kTypeA ? wire::Family::kIpv4 : wire::Family::kIpv6;
  question.bytes = message.substr(kHeaderBytes, at + 5 - kHeaderBytes);
  return question;
}

std::string record(const std::string& owner, std::uint16_t type, std::uint32_t ttl_s,
                   const std::string& data) {
  return owner + u16(type) + u16(1) + u32(ttl_s) + u16(static_cast<std::uint32_t>(data.size())) +
         data;
}

struct Records {
  std::string bytes;
  std::uint32_t count = 0;
};

Records records_of(const DnsReply& reply, wire::Family family) {
  Records records;
  std::string owner = "\xc0\x0c";  // the question's name
  const auto add = [&](std::uint16_t type, std::uint32_t ttl_s, const std::string& data) {
    records.bytes += record(owner, type, ttl_s, data);
    ++records.count;
  };
  if (!reply.alias_of.empty()) {
    add(kTypeCname, reply.alias_ttl_s, name_bytes(reply.alias_of));
    owner = name_bytes(reply.alias_of);
  }
  for (const wire::IpAddress& address : reply.addresses) {
    if (address.family() != family) continue;
    const bool v4 = family == wire::Family::kIpv4;
    const std::string all{address.bytes.begin(), address.bytes.end()};
    add(v4 ? kTypeA : kTypeAaaa, reply.ttl_s, v4 ? all.substr(12) : all);
  }
  return records;
}

std::string message_of(std::string_view id, std::uint32_t flags, const Question& question,
                       const Records& records) {
  return std::string{id} + u16(flags) + u16(1) + u16(records.count) + u16(0) + u16(0) +
         std::string{question.bytes} + records.bytes;
}

UniqueFd bound_socket(int type, const wire::IpAddress& to, std::uint16_t port) {
  UniqueFd fd{::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, to.v4_octets().data(), 4);
  address.sin_port = htons(port);
  // The socket interface takes every address family through the generic type.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return {};
  return fd;
}

std::uint16_t port_of(const UniqueFd& fd) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);  // as above
  return ntohs(address.sin_port);
}

}  // namespace

DnsServer::DnsServer(const wire::IpAddress& address, wire::Port port) : address_{address} {
  constexpr int kTries = 100;  // the other protocol's port of that number may be somebody's
  for (int i = 0; i < kTries && !tcp_; ++i) {
    udp_ = bound_socket(SOCK_DGRAM, address, port.value());
    WEIR_ASSERT(udp_);  // loopback has ports left, and a given one is free there
    port_ = wire::Port{port_of(udp_)};
    tcp_ = bound_socket(SOCK_STREAM, address, port_.value());
  }
  WEIR_ASSERT(tcp_ && ::listen(tcp_.get(), 16) == 0);
  thread_ = std::thread{[this] { run(); }};
}

DnsServer::~DnsServer() {
  stop_ = true;
  thread_.join();
}

std::string DnsServer::address() const { return wire::Endpoint{address_, port_}.text(); }

void DnsServer::set(const std::string& name, wire::Family family, DnsReply reply) {
  const std::lock_guard lock{mutex_};
  replies_.insert_or_assign({name, family}, std::move(reply));
}

void DnsServer::set(const std::string& name, DnsReply reply) {
  set(name, wire::Family::kIpv4, reply);
  set(name, wire::Family::kIpv6, std::move(reply));
}

DnsServer::Asked DnsServer::asked(const std::string& name, wire::Family family) const {
  const std::lock_guard lock{mutex_};
  const auto found = asked_.find({name, family});
  return found == asked_.end() ? Asked{} : found->second;
}

void DnsServer::run() {
  constexpr int kLookAroundMs = 20;  // for the end
  while (!stop_) {
    std::array<pollfd, 2> polled{pollfd{udp_.get(), POLLIN, 0}, pollfd{tcp_.get(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), kLookAroundMs) <= 0) continue;
    if (polled[0].revents != 0) serve_udp();
    if (polled[1].revents != 0) serve_tcp();
  }
}

void DnsServer::serve_udp() {
  std::array<char, 4096> bytes;
  sockaddr_in from{};
  socklen_t size = sizeof(from);
  const ssize_t count = ::recvfrom(udp_.get(), bytes.data(), bytes.size(), 0,
                                   reinterpret_cast<sockaddr*>(&from), &size);  // as above
  if (count <= 0) return;
  const std::string reply = reply_to({bytes.data(), static_cast<std::size_t>(count)}, false);
  if (reply.empty()) return;
  ::sendto(udp_.get(), reply.data(), reply.size(), 0, reinterpret_cast<const sockaddr*>(&from),
           size);
}

/// One connection, with all the questions that come over it; nobody else is served meanwhile.
void DnsServer::serve_tcp() {
  const UniqueFd client{::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
  if (!client) return;
  std::string input;
  std::array<char, 4096> bytes;
  while (!stop_) {
    pollfd polled{client.get(), POLLIN, 0};
    constexpr int kQuietMs = 20;
    const int ready = ::poll(&polled, 1, kQuietMs);
    if (ready < 0) return;
    if (ready > 0) {
      const ssize_t count = ::read(client.get(), bytes.data(), bytes.size());
      if (count <= 0) return;
      input.append(bytes.data(), static_cast<std::size_t>(count));
    }
    while (input.size() >= 2) {
      const std::size_t length = static_cast<std::uint8_t>(input[0]) * std::size_t{256} +
                                 static_cast<std::uint8_t>(input[1]);
      if (input.size() < 2 + length) break;
      const std::string reply = reply_to(std::string_view{input}.substr(2, length), true);
      input.erase(0, 2 + length);
      if (reply.empty()) return;
      const std::string framed = u16(static_cast<std::uint32_t>(reply.size())) + reply;
      if (::send(client.get(), framed.data(), framed.size(), MSG_NOSIGNAL) < 0) return;
    }
  }
}

std::string DnsServer::reply_to(std::string_view message, bool by_tcp) {
  const auto question = question_of(message);
  if (!question) return {};
  const std::string_view id = message.substr(0, 2);
  const std::lock_guard lock{mutex_};
  const Key key{question->name, question->family};
  ++(by_tcp ? asked_[key].tcp : asked_[key].udp);
  const auto found = replies_.find(key);
  constexpr std::uint32_t kAnswerFlags = 0x8180;  // an answer, recursion wanted and available
  constexpr std::uint32_t kTruncated = 0x0200;
  if (found == replies_.end()) return message_of(id, kAnswerFlags | 3, *question, {});
  const DnsReply& reply = found->second;
  const std::string answer =
      message_of(id, kAnswerFlags, *question, records_of(reply, question->family));
  switch (reply.kind) {
    case DnsReply::Kind::kAnswer:
      return answer;
    case DnsReply::Kind::kServFail:
      return message_of(id, kAnswerFlags | 2, *question, {});
    case DnsReply::Kind::kNoName:
      return message_of(id, kAnswerFlags | 3, *question, {});
    case DnsReply::Kind::kRefused:
      return message_of(id, kAnswerFlags | 5, *question, {});
    case DnsReply::Kind::kSilence:
      return {};
    case DnsReply::Kind::kGarbage:
      return std::string{id} + "\x81\x80" + std::string(40, '\xee');
    case DnsReply::Kind::kCutShort:
      return answer.substr(0, answer.size() - 2);
    case DnsReply::Kind::kOtherId:
      return message_of(
          u16(static_cast<std::uint32_t>((static_cast<std::uint8_t>(id[0]) ^ 0xffU) << 8 |
                                         static_cast<std::uint8_t>(id[1]))),
          kAnswerFlags, *question, records_of(reply, question->family));
    case DnsReply::Kind::kOnlyByTcp:
      return by_tcp ? answer : message_of(id, kAnswerFlags | kTruncated, *question, {});
    case DnsReply::Kind::kHangsUp:
      return by_tcp ? "" : message_of(id, kAnswerFlags | kTruncated, *question, {});
  }
  return {};
}

}  // namespace weir::testing
