#include "l4/netlink.h"

#include <sys/socket.h>

#include <array>

namespace weir::l4 {
namespace {

// The kernel's dump messages are at most 32 KiB (netlink_dump); twice that loses nothing.
constexpr std::size_t kReceiveBytes = 64 * 1024;
// A dump is answered in parts; a broken peer must not hold us here for ever.
constexpr int kPartsMax = 100'000;
constexpr int kSocketBufferBytes = 4 * 1024 * 1024;  // room for a burst of neighbour changes

std::size_t aligned(std::size_t size) { return (size + NLMSG_ALIGNTO - 1) & ~std::size_t{3}; }
static_assert(NLMSG_ALIGNTO == 4 && NLA_ALIGNTO == 4);

Error refusal(std::string_view doing, const NetlinkMessage& message, const nlmsgerr& header) {
  Error error = Error::from_errno(doing, -header.error);
  // With NETLINK_EXT_ACK and NETLINK_CAP_ACK the request is cut to its header, attributes follow.
  const NetlinkAttributes attributes{message.body, sizeof(nlmsgerr)};
  const std::string words = attributes.text(NLMSGERR_ATTR_MSG);
  if (words.empty()) return error;
  return Error{error.code(), fmt::format("{}: {}", error.message(), words)};
}

}  // namespace

NetlinkRequest::NetlinkRequest(std::uint16_t type, std::uint16_t flags) {
  nlmsghdr header{};
  header.nlmsg_type = type;
  // Always acknowledged, so that every exchange has an end.
  header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST | NLM_F_ACK);
  fixed(header);
}

void NetlinkRequest::append(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  bytes_.resize(aligned(bytes_.size()));
}

NetlinkRequest& NetlinkRequest::attribute(std::uint16_t type, std::span<const std::byte> value) {
  nlattr header{};
  header.nla_type = type;
  header.nla_len = static_cast<std::uint16_t>(sizeof(header) + value.size());
  fixed(header);
  append(value);
  return *this;
}

NetlinkRequest& NetlinkRequest::attribute(std::uint16_t type, std::string_view text) {
  const std::string terminated{text};
  return attribute(type, std::as_bytes(std::span{terminated.c_str(), terminated.size() + 1}));
}

NetlinkRequest& NetlinkRequest::attribute(std::uint16_t type, const wire::IpAddress& address) {
  if (address.is_v4()) return attribute(type, std::as_bytes(address.v4_octets()));
  return attribute(type, std::as_bytes(std::span{address.bytes}));
}

NetlinkRequest& NetlinkRequest::attribute(std::uint16_t type, const wire::MacAddress& mac) {
  return attribute(type, std::as_bytes(std::span{mac.bytes}));
}

NetlinkRequest& NetlinkRequest::nested(std::uint16_t type,
                                       const std::function<void(NetlinkRequest&)>& fill) {
  const std::size_t start = bytes_.size();
  attribute(static_cast<std::uint16_t>(type | NLA_F_NESTED), std::span<const std::byte>{});
  fill(*this);
  const auto length = static_cast<std::uint16_t>(bytes_.size() - start);
  std::memcpy(bytes_.data() + start + offsetof(nlattr, nla_len), &length, sizeof(length));
  return *this;
}

std::span<const std::byte> NetlinkRequest::finish(std::uint32_t sequence) {
  const auto length = static_cast<std::uint32_t>(bytes_.size());
  std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof(length));
  std::memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
  return bytes_;
}

void for_each_message(std::span<const std::byte> bytes,
                      const std::function<void(const NetlinkMessage&)>& visit) {
  while (bytes.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > bytes.size()) return;
    visit({.type = header.nlmsg_type,
           .sequence = header.nlmsg_seq,
           .body = bytes.subspan(sizeof(header), header.nlmsg_len - sizeof(header))});
    bytes = bytes.subspan(std::min(aligned(header.nlmsg_len), bytes.size()));
  }
}

NetlinkAttributes::NetlinkAttributes(std::span<const std::byte> bytes, std::size_t fixed_size) {
  const std::size_t start = aligned(fixed_size);
  if (bytes.size() < start) return;
  bytes = bytes.subspan(start);
  while (bytes.size() >= sizeof(nlattr)) {
    nlattr header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > bytes.size()) return;
    values_.emplace_back(static_cast<std::uint16_t>(header.nla_type & NLA_TYPE_MASK),
                         bytes.subspan(sizeof(header), header.nla_len - sizeof(header)));
    bytes = bytes.subspan(std::min(aligned(header.nla_len), bytes.size()));
  }
}

std::optional<std::span<const std::byte>> NetlinkAttributes::find(std::uint16_t type) const {
  for (auto value = values_.rbegin(); value != values_.rend(); ++value) {
    if (value->first == type) return value->second;
  }
  return std::nullopt;
}

template <typename T>
std::optional<T> NetlinkAttributes::number(std::uint16_t type) const {
  const auto value = find(type);
  if (!value || value->size() != sizeof(T)) return std::nullopt;
  T number = 0;
  std::memcpy(&number, value->data(), sizeof(number));
  return number;
}

std::optional<std::uint16_t> NetlinkAttributes::u16(std::uint16_t type) const {
  return number<std::uint16_t>(type);
}

std::optional<std::uint32_t> NetlinkAttributes::u32(std::uint16_t type) const {
  return number<std::uint32_t>(type);
}

std::optional<wire::IpAddress> NetlinkAttributes::address(std::uint16_t type) const {
  const auto value = find(type);
  return value ? address_of(*value) : std::nullopt;
}

std::optional<wire::MacAddress> NetlinkAttributes::mac(std::uint16_t type) const {
  const auto value = find(type);
  wire::MacAddress mac;
  if (!value || value->size() != mac.bytes.size()) return std::nullopt;
  std::memcpy(mac.bytes.data(), value->data(), mac.bytes.size());
  return mac;
}

std::string NetlinkAttributes::text(std::uint16_t type) const {
  const auto value = find(type);
  if (!value) return {};
  const std::string_view text{reinterpret_cast<const char*>(value->data()), value->size()};
  return std::string{text.substr(0, text.find('\0'))};
}

std::optional<wire::IpAddress> address_of(std::span<const std::byte> bytes) {
  std::array<std::uint8_t, 16> octets{};
  if (bytes.size() != 4 && bytes.size() != 16) return std::nullopt;
  std::memcpy(octets.data(), bytes.data(), bytes.size());
  if (bytes.size() == 4) return wire::IpAddress::v4(std::span{octets}.first<4>());
  return wire::IpAddress::v6(octets);
}

Result<NetlinkSocket> NetlinkSocket::open(std::span<const unsigned> groups) {
  UniqueFd fd{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
  if (!fd) return Error::from_errno("opening a route netlink socket");
  const int on = 1;
  // All three only improve messages and sizes; a kernel without them still works.
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  ::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBufferBytes,
               sizeof(kSocketBufferBytes));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  // sockaddr_nl is what the socket interface takes under the name of sockaddr.
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return Error::from_errno("binding a route netlink socket");
  for (const unsigned group : groups) {
    if (::setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0)
      return Error::from_errno(fmt::format("joining route netlink group {}", group));
  }
  NetlinkSocket socket{std::move(fd)};
  socket.buffer_.resize(kReceiveBytes);
  return socket;
}

Result<std::span<const std::byte>> NetlinkSocket::receive(int flags) {
  ssize_t size = 0;
  do {
    size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), flags);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return Error::from_errno("receiving from route netlink");
  return std::span<const std::byte>{buffer_}.first(static_cast<std::size_t>(size));
}

Result<void> NetlinkSocket::execute(NetlinkRequest& request, std::string_view doing) {
  return query(request, doing, [](const NetlinkMessage&) {});
}

Result<void> NetlinkSocket::query(NetlinkRequest& request, std::string_view doing,
                                  const Visitor& visit) {
  const std::uint32_t sequence = ++sequence_;
  const auto bytes = request.finish(sequence);
  if (::send(fd_.get(), bytes.data(), bytes.size(), 0) < 0) return Error::from_errno(doing);
  std::optional<Result<void>> outcome;
  for (int part = 0; part < kPartsMax && !outcome; ++part) {
    Result<std::span<const std::byte>> received = receive(0);
    if (!received) return std::move(received).error().while_doing(doing);
    for_each_message(*received, [&](const NetlinkMessage& message) {
      if (message.sequence != sequence || outcome) return;
      if (message.type == NLMSG_DONE) {
        const int error = message.fixed<int>().value_or(0);
        outcome.emplace();
        if (error < 0) outcome.emplace(Error::from_errno(doing, -error));
      } else if (message.type == NLMSG_ERROR) {
        const auto header = message.fixed<nlmsgerr>();
        if (header && header->error != 0) {
          outcome.emplace(refusal(doing, message, *header));
        } else {
          outcome.emplace();
        }
      } else {
        visit(message);
      }
    });
  }
  if (!outcome) return Error{ErrorCode::kInternal, fmt::format("{}: the answer has no end", doing)};
  return std::move(*outcome);
}

Result<bool> NetlinkSocket::drain(const Visitor& visit) {
  bool complete = true;
  for (int part = 0; part < kPartsMax; ++part) {
    const ssize_t size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return complete;
    if (size < 0 && errno == ENOBUFS) {
      complete = false;
      continue;
    }
    if (size < 0) return Error::from_errno("receiving route netlink notifications");
    for_each_message(std::span<const std::byte>{buffer_}.first(static_cast<std::size_t>(size)),
                     visit);
  }
  return complete;  // more is waiting; the descriptor stays readable
}

}  // namespace weir::l4
