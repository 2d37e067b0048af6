#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "l4/base/fd.h"
#include "l4/control/probe_exchange.h"
#include "l4/wire/address.h"

/// Small real servers for probes to ask, and exchanges driven without sockets.
namespace weir::control::testing {

/// What a gRPC server answers to Health/Check; empty strings are left out.
struct GrpcAnswer {
  std::string http_status = "200";
  std::string content_type = "application/grpc";
  std::string body = {};  ///< framed
  std::string grpc_status = "0";
  std::string grpc_message = {};
  bool is_reset = false;  ///< RST_STREAM in place of an answer
};

/// One side of a connection: what came in since the last call, and what goes out.
using Conversation = std::function<std::string(std::string_view)>;
/// A new conversation for each connection.
using Script = std::function<Conversation()>;

Script says(std::string answer);  ///< after the first bytes of a request
Script is_silent();
Script answers_grpc(GrpcAnswer answer);

/// Drives both sides until there is a verdict, or nothing more is said: then the connection ends.
/// Answers arrive `piece` bytes at a time.
ProbeVerdict converse(ProbeExchange& exchange, const Script& server, std::size_t piece);

/// Binds to a port of a loopback address that the system chooses, so that nobody else has it.
class BoundSocket {
 public:
  BoundSocket(const wire::IpAddress& address, int type);
  [[nodiscard]] wire::Port port() const { return port_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  wire::Port port_{0};
};

/// Accepts one connection after the other and talks by the script; ends a connection when the
/// conversation's answer is sent. Must outlive the prober that asks it.
class TcpServer {
 public:
  TcpServer(const wire::IpAddress& address, Script script);
  TcpServer(const TcpServer&) = delete;
  TcpServer& operator=(const TcpServer&) = delete;
  ~TcpServer();
  [[nodiscard]] wire::Port port() const { return socket_.port(); }
  [[nodiscard]] int accepted() const { return accepted_; }

 private:
  void run();
  BoundSocket socket_;
  Script script_;
  std::atomic<int> accepted_ = 0;
  std::thread thread_;
};

/// Answers each datagram; with an empty answer it stays silent.
class UdpServer {
 public:
  UdpServer(const wire::IpAddress& address, std::string answer);
  UdpServer(const UdpServer&) = delete;
  UdpServer& operator=(const UdpServer&) = delete;
  ~UdpServer();
  [[nodiscard]] wire::Port port() const { return socket_.port(); }

 private:
  void run();
  BoundSocket socket_;
  std::string answer_;
  std::thread thread_;
};

}  // namespace weir::control::testing
