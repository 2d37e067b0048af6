#include "tests/l4/control/probe_servers.h"

#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"

namespace weir::control::testing {
namespace {

/// The server's side of HTTP/2, by nghttp2.
class GrpcServer {
 public:
  explicit GrpcServer(GrpcAnswer answer) : answer_{std::move(answer)} {
    nghttp2_session_callbacks* callbacks = nullptr;
    WEIR_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
          if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
            static_cast<GrpcServer*>(self)->answer(frame->hd.stream_id);
          return 0;
        });
    WEIR_ASSERT(nghttp2_session_server_new(&session_, callbacks, this) == 0);
    nghttp2_session_callbacks_del(callbacks);
    WEIR_ASSERT(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0) == 0);
  }
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;
  ~GrpcServer() { nghttp2_session_del(session_); }

  std::string on_bytes(std::string_view bytes) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    WEIR_ASSERT(nghttp2_session_mem_recv(session_, data, bytes.size()) ==
                static_cast<ssize_t>(bytes.size()));
    std::string out;
    for (;;) {
      const std::uint8_t* sent = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &sent);
      if (size <= 0) return out;
      out += as_text(std::as_bytes(std::span{sent, static_cast<std::size_t>(size)}));
    }
  }

 private:
  static void add(std::vector<nghttp2_nv>& fields, std::string_view name, std::string& value) {
    if (value.empty()) return;
    fields.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<std::uint8_t*>(value.data()), name.size(), value.size(),
                      NGHTTP2_NV_FLAG_NONE});
  }

  void answer(std::int32_t stream) {
    if (answer_.is_reset) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, NGHTTP2_REFUSED_STREAM);
      return;
    }
    std::vector<nghttp2_nv> head;
    add(head, ":status", answer_.http_status);
    add(head, "content-type", answer_.content_type);
    nghttp2_data_provider body{};
    body.source.ptr = this;
    body.read_callback = [](nghttp2_session* session, std::int32_t id, std::uint8_t* out,
                            std::size_t size, std::uint32_t* flags, nghttp2_data_source* source,
                            void*) {
      auto* self = static_cast<GrpcServer*>(source->ptr);
      const std::size_t count = std::min(size, self->answer_.body.size());
      std::copy_n(self->answer_.body.begin(), count, out);
      self->answer_.body.erase(0, count);
      if (!self->answer_.body.empty()) return static_cast<ssize_t>(count);
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      std::vector<nghttp2_nv> trailers;
      add(trailers, "grpc-status", self->answer_.grpc_status);
      add(trailers, "grpc-message", self->answer_.grpc_message);
      if (trailers.empty())
        *flags &= ~static_cast<std::uint32_t>(NGHTTP2_DATA_FLAG_NO_END_STREAM);
      else
        nghttp2_submit_trailer(session, id, trailers.data(), trailers.size());
      return static_cast<ssize_t>(count);
    };
    nghttp2_submit_response(session_, stream, head.data(), head.size(), &body);
  }

  GrpcAnswer answer_;
  nghttp2_session* session_ = nullptr;
};

}  // namespace

Script says(std::string answer) {
  return [answer] {
    return [answer](std::string_view request) { return request.empty() ? std::string{} : answer; };
  };
}

Script is_silent() {
  return [] { return [](std::string_view) { return std::string{}; }; };
}

Script answers_grpc(GrpcAnswer answer) {
  return [answer] {
    return [server = std::make_shared<GrpcServer>(answer)](std::string_view bytes) {
      return server->on_bytes(bytes);
    };
  };
}

ProbeVerdict converse(ProbeExchange& exchange, const Script& server, std::size_t piece) {
  const Conversation conversation = server();
  for (;;) {
    const std::string request = exchange.take_output();
    std::string answer = conversation(request);
    if (request.empty() && answer.empty()) return exchange.on_end();
    while (!answer.empty()) {
      const std::string_view part = std::string_view{answer}.substr(0, piece);
      if (auto verdict = exchange.on_bytes(as_bytes(part))) return *verdict;
      answer.erase(0, part.size());
    }
  }
}

BoundSocket::BoundSocket(const wire::IpAddress& address, int type)
    : fd_{::socket(address.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0)} {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_in6);
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, address.v4_octets().data(), sizeof(v4.sin_addr));
    std::memcpy(&storage, &v4, sizeof(v4));
    size = sizeof(v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes.data(), sizeof(v6.sin6_addr));
    std::memcpy(&storage, &v6, sizeof(v6));
  }
  auto* const generic = reinterpret_cast<sockaddr*>(&storage);
  WEIR_ASSERT(::bind(fd_.get(), generic, size) == 0);
  WEIR_ASSERT(::getsockname(fd_.get(), generic, &size) == 0);
  // The port lies at the same place in both families.
  sockaddr_in named{};
  std::memcpy(&named, &storage, sizeof(named));
  port_ = wire::Port{ntohs(named.sin_port)};
}

TcpServer::TcpServer(const wire::IpAddress& address, Script script)
    : socket_{address, SOCK_STREAM}, script_{std::move(script)} {
  WEIR_ASSERT(::listen(socket_.fd(), SOMAXCONN) == 0);
  thread_ = std::thread{[this] { run(); }};
}

TcpServer::~TcpServer() {
  ::shutdown(socket_.fd(), SHUT_RDWR);  // ends accept()
  thread_.join();
}

void TcpServer::run() {
  for (;;) {
    const UniqueFd connection{::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!connection) return;
    ++accepted_;
    const Conversation conversation = script_();
    std::array<char, 4096> buffer;
    for (;;) {
      const ssize_t size = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0) break;
      const std::string answer = conversation({buffer.data(), static_cast<std::size_t>(size)});
      ::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }
}

UdpServer::UdpServer(const wire::IpAddress& address, std::string answer)
    : socket_{address, SOCK_DGRAM}, answer_{std::move(answer)} {
  thread_ = std::thread{[this] { run(); }};
}

UdpServer::~UdpServer() {
  ::shutdown(socket_.fd(), SHUT_RDWR);  // ends recvfrom(), also where nothing is connected
  thread_.join();
}

void UdpServer::run() {
  for (;;) {
    std::array<char, 2048> buffer;
    sockaddr_storage from{};
    socklen_t size = sizeof(from);
    auto* const generic = reinterpret_cast<sockaddr*>(&from);
    const ssize_t got = ::recvfrom(socket_.fd(), buffer.data(), buffer.size(), 0, generic, &size);
    if (size == 0 || got < 0) return;  // the end comes without a sender
    if (!answer_.empty()) ::sendto(socket_.fd(), answer_.data(), answer_.size(), 0, generic, size);
  }
}

}  // namespace weir::control::testing
