#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/l7/proxy/core_fixture.h"

// The way to an endpoint through a whole worker: retries, budgets, time-outs, queues, sessions.

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::string_view kUnavailable =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// A backend that leaves its answers to the test: who has asked, each time.
testing::Handler noting(std::vector<Peer*>& asked) {
  return [&asked](Peer& peer) {
    if (peer.received.size() <= peer.handled) return;
    peer.handled = peer.received.size();
    asked.push_back(&peer);
  };
}

class Attempts : public ProxyCore {
 protected:
  /// Endpoints 8001, 8002, … with these handlers; one without a handler refuses.
  std::vector<Backend*> serve_all(const std::vector<testing::Handler>& handlers,
                                  const std::function<void(control::Model&)>& edit) {
    std::vector<wire::Endpoint> endpoints;
    std::vector<Backend*> backends;
    for (std::size_t i = 0; i < handlers.size(); ++i) {
      const auto port = static_cast<std::uint16_t>(8001 + i);
      endpoints.push_back(ProxyWorld::backend_endpoint(port));
      backends.push_back(handlers[i] ? &world_.add_backend(port, handlers[i]) : nullptr);
    }
    control::Model model = ProxyWorld::model_for(endpoints);
    edit(model);
    world_.install(model);
    return backends;
  }
  static control::RetryPolicy& retry_of(control::Model& model) {
    return model.http_routes[0].rules[0].retry;
  }
  std::string ask(std::string_view method = "GET", Duration time = 200ms) {
    Peer& client =
        connect_and_send(request(method, method == "POST" ? "Content-Length: 0\r\n" : ""));
    world_.run_for(time);
    return client.received;
  }
  static testing::Handler resetting(ProxyWorld& world) {
    return [&world](Peer& peer) {
      if (!peer.received.empty()) peer.reset(world.now());
    };
  }
};

// ---- retries -----------------------------------------------------------------------------------

TEST_F(Attempts, AStatusThatTheRouteRejectsIsAskedOfAnotherEndpoint) {
  const auto backends =
      serve_all({answering(std::string{kUnavailable}), answering(std::string{kOk})},
                [](control::Model& model) { retry_of(model).statuses = {503}; });
  EXPECT_EQ(ask(), kOk);
  EXPECT_EQ(backends[0]->received(), at_backend());
  EXPECT_EQ(backends[1]->received(), at_backend());
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["attempts"], 2);
  EXPECT_EQ(lines[0]["status"], 200);
}

TEST_F(Attempts, TheLastAnswerIsGivenWhereRetriesAreUsedUp) {
  serve_all({answering(std::string{kUnavailable}), answering(std::string{kUnavailable})},
            [](control::Model& model) {
              retry_of(model).statuses = {503};
              retry_of(model).attempts = 3;
            });
  EXPECT_THAT(ask("GET", 1s), StartsWith("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0"));
  const auto lines = log();
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0]["attempts"], 4);
  EXPECT_EQ(lines[0]["reason"], "ok");
}

TEST_F(Attempts, APostIsNeverMadeAgainForAStatusOrAReset) {
  const auto backends = serve_all(
      {answering(std::string{kUnavailable}), resetting(world_)}, [](control::Model& model) {
        retry_of(model).on_5xx = retry_of(model).on_reset = retry_of(model).on_timeout = true;
      });
  EXPECT_THAT(ask("POST"), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(ask("POST"), StartsWith("HTTP/1.1 502 "));
  EXPECT_EQ(backends[0]->connections.size(), 1U);
  EXPECT_EQ(backends[1]->connections.size(), 1U);
  EXPECT_EQ(world_.report().core.retries, 0U);
}

TEST_F(Attempts, AResetBeforeAnAnswerIsTriedAgainWhereTheRouteSaysSo) {
  const auto backends = serve_all({resetting(world_), answering(std::string{kOk})},
                                  [](control::Model& model) { retry_of(model).on_reset = true; });
  EXPECT_EQ(ask(), kOk);
  EXPECT_EQ(backends[0]->connections.size(), 1U);
}

TEST_F(Attempts, WithoutThatWordItIsNot) {
  serve_all({resetting(world_), answering(std::string{kOk})}, [](control::Model&) {});
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 502 "));
  EXPECT_EQ(outcomes(), "502 upstream_reset");
}

TEST_F(Attempts, ASilentEndpointIsLeftAfterItsTimeForAnother) {
  serve_all({[](Peer&) {}, answering(std::string{kOk})}, [](control::Model& model) {
    retry_of(model).on_timeout = true;
    model.http_routes[0].rules[0].timeouts.backend_request_ms = 500;
  });
  EXPECT_EQ(ask("GET", 400ms), "");
  world_.run_for(300ms);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(Attempts, AConnectionThatDoesNotStandInTimeIsLeftForAnother) {
  Backend& app = world_.add_backend(8002, answering(std::string{kOk}));
  control::Model model =
      ProxyWorld::model_for({*wire::Endpoint::parse("10.0.0.99:80"), app.endpoint});
  model.services[0].limits.connect_timeout_ms = 100;
  world_.install(model);
  Peer& client = connect_and_send(request("POST", "Content-Length: 0\r\n"));
  world_.run_for(90ms);
  EXPECT_EQ(client.received, "");
  world_.run_for(100ms);
  EXPECT_EQ(client.received, kOk);
}

TEST_F(Attempts, ZeroAttemptsMeansNone) {
  serve_all({nullptr, answering(std::string{kOk})},
            [](control::Model& model) { retry_of(model).attempts = 0; });
  EXPECT_THAT(ask(), StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(outcomes(), "503 connect_failed");
}

TEST_F(Attempts, RetriesAtOnceStayWithinTheBudget) {
  // All wait for a silent endpoint; when it is given up, only three of twenty may try again.
  serve_all({[](Peer&) {}, [](Peer&) {}}, [](control::Model& model) {
    retry_of(model).on_timeout = true;
    retry_of(model).attempts = 1;
    retry_of(model).budget_percent = 10;
    model.http_routes[0].rules[0].timeouts.backend_request_ms = 500;
  });
  for (int i = 0; i < 20; ++i)
    connect_and_send(request());
  world_.run_for(3s);
  EXPECT_EQ(world_.report().core.retries, 3U);
  EXPECT_EQ(count(Reason::kUpstreamTimeout), 20U);
}

TEST_F(Attempts, AnAnswerThatStreamsForLongIsNoRetryAnyMore) {
  serve_all({nullptr,
             [](Peer& peer) {
               if (peer.requests++ == 0)
                 peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
             }},
            [](control::Model& model) { model.services[0].outlier.consecutive_failures = 0; });
  std::vector<Peer*> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(&connect_and_send(request()));
    world_.run_for(10ms);
  }
  for (const Peer* client : clients)
    EXPECT_THAT(client->received, StartsWith("HTTP/1.1 200 "));
}

TEST_F(Attempts, AnEventStreamMayBeSilentForMinutesAndAnotherAnswerMayNot) {
  for (const bool events : {true, false}) {
    SCOPED_TRACE(events);
    Backend& backend = world_.add_backend(events ? 8001 : 8002, [&](Peer& peer) {
      if (peer.requests++ == 0)
        peer.send(
            fmt::format("HTTP/1.1 200 OK\r\nContent-Type: text/{}\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
                        events ? "Event-Stream; charset=utf-8" : "plain"));
    });
    world_.install(ProxyWorld::model_for({backend.endpoint}));
    Peer& client = connect_and_send(request());
    world_.run_for(300s);
    EXPECT_EQ(client.was_reset(), !events);
  }
}

TEST_F(Attempts, ASilentEventStreamEndsSoonAfterItsClientHasEndedItsSide) {
  Backend& app = world_.add_backend(8001, [&](Peer& peer) {
    if (peer.requests++ == 0)
      peer.send(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
          "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
  });
  world_.install(ProxyWorld::model_for({app.endpoint}));
  Peer& client = connect_and_send(request());
  world_.run_for(300s);
  client.finish();
  world_.run_for(20s);
  app.connections[0]->send("1\r\ny\r\n");
  world_.run_for(1s);
  EXPECT_TRUE(client.received.ends_with("1\r\ny\r\n")) << "it may still listen";
  world_.run_for(28s);
  EXPECT_FALSE(client.was_reset());
  world_.run_for(2s);
  EXPECT_TRUE(client.was_reset());
}

TEST_F(Attempts, TheRouteSaysHowLongAnEndpointMayBeSilent) {
  serve_all({[](Peer&) {}}, [](control::Model& model) {
    model.http_routes[0].rules[0].timeouts.backend_idle_ms = 2000;
  });
  EXPECT_EQ(ask("GET", 1900ms), "");
  world_.run_for(200ms);
  EXPECT_EQ(outcomes(), "504 upstream_timeout");
}

TEST_F(Attempts, RetriesByStatusStayWithinTheBudgetToo) {
  // All are asked before any answers, so that each of them could still think it was the first.
  std::vector<Peer*> asked;
  const auto collect = [&](Peer& peer) { asked.push_back(&peer); };
  serve_all({collect, collect}, [](control::Model& model) {
    retry_of(model).statuses = {503};
    retry_of(model).attempts = 1;
    retry_of(model).budget_percent = 10;
    model.services[0].outlier.consecutive_failures = 0;
  });
  for (int i = 0; i < 20; ++i)
    connect_and_send(request());
  world_.run_for(50ms);
  const std::vector<Peer*> first = asked;
  for (Peer* peer : first)
    if (!peer->received.empty()) peer->send(kUnavailable);
  world_.run_for(200ms);
  EXPECT_EQ(world_.report().core.retries, 3U);
  for (Peer* peer : asked)
    if (!peer->gone()) peer->send(kUnavailable);
  world_.run_for(200ms);
}

// ---- ejection ----------------------------------------------------------------------------------

TEST_F(Attempts, AnEndpointThatFailsAgainAndAgainIsLeftOutForAWhile) {
  serve_all({answering(std::string{kUnavailable}), answering(std::string{kOk})},
            [](control::Model& model) {
              model.services[0].outlier = {.consecutive_failures = 2, .ejection_time_ms = 1000};
            });
  for (int i = 0; i < 4; ++i)
    ask("GET", 5ms);
  EXPECT_EQ(outcomes(), "503 ok, 200 ok, 503 ok, 200 ok");
  for (int i = 0; i < 6; ++i)
    ask("GET", 5ms);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok, 200 ok, 200 ok, 200 ok, 200 ok");
  EXPECT_EQ(world_.report().core.ejections, 1U);
  world_.run_for(1s);
  for (int i = 0; i < 2; ++i)
    ask("GET", 5ms);
  EXPECT_THAT(outcomes(), HasSubstr("503 ok"));
}

TEST_F(Attempts, ErrorsOfTheApplicationEjectNobody) {
  serve_all({answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
             answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")},
            [](control::Model& model) { model.services[0].outlier.consecutive_failures = 1; });
  for (int i = 0; i < 10; ++i)
    ask("GET", 5ms);
  EXPECT_EQ(world_.report().core.ejections, 0U);
}

// ---- queues ------------------------------------------------------------------------------------

TEST_F(Attempts, RequestsBeyondTheLimitWaitTheirTurn) {
  std::vector<Peer*> asked;
  const auto backends = serve_all({noting(asked)}, [](control::Model& model) {
    model.services[0].limits.requests_per_endpoint = 2;
    model.services[0].limits.queue_timeout_ms = 10'000;
  });
  std::vector<Peer*> clients;
  for (int i = 0; i < 5; ++i)
    clients.push_back(&connect_and_send(request()));
  world_.run_for(50ms);
  EXPECT_EQ(asked.size(), 2U);
  for (std::size_t i = 0; i < 5; ++i) {
    ASSERT_GT(asked.size(), i);
    asked[i]->send(kOk);
    world_.run_for(20ms);
    EXPECT_EQ(clients[i]->received, kOk) << i;  // first come, first served
  }
  EXPECT_EQ(outcomes(), "200 ok, 200 ok, 200 ok, 200 ok, 200 ok");
}

TEST_F(Attempts, AFullQueueAndATooLongWaitAreOverload) {
  serve_all({[](Peer&) {}}, [](control::Model& model) {
    model.services[0].limits.requests_per_endpoint = 1;
    model.services[0].limits.queue = 1;
    model.services[0].limits.queue_timeout_ms = 500;
  });
  Peer& first = connect_and_send(request());
  world_.run_for(20ms);
  Peer& second = connect_and_send(request());
  world_.run_for(20ms);
  Peer& third = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_THAT(third.received, StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(outcomes(), "503 overloaded");
  EXPECT_EQ(second.received, "");
  world_.run_for(500ms);
  EXPECT_THAT(second.received, StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(outcomes(), "503 overloaded");
  EXPECT_EQ(first.received, "");
}

TEST_F(Attempts, AClientThatGivesUpLeavesTheQueue) {
  std::vector<Peer*> asked;
  serve_all({noting(asked)}, [](control::Model& model) {
    model.services[0].limits.requests_per_endpoint = 1;
    model.services[0].limits.queue_timeout_ms = 10'000;
  });
  connect_and_send(request());
  world_.run_for(20ms);
  Peer& gone = connect_and_send(request());
  world_.run_for(20ms);
  Peer& last = connect_and_send(request());
  world_.run_for(20ms);
  gone.reset(world_.now());
  world_.run_for(20ms);
  ASSERT_EQ(asked.size(), 1U);
  asked[0]->send(kOk);
  world_.run_for(20ms);
  ASSERT_EQ(asked.size(), 2U);
  asked[1]->send(kOk);
  world_.run_for(20ms);
  EXPECT_EQ(last.received, kOk);
}

TEST_F(Attempts, WhoComesLaterDoesNotOvertakeThoseWhoWait) {
  std::vector<Peer*> asked;
  serve_all({noting(asked)}, [](control::Model& model) {
    model.services[0].limits.requests_per_endpoint = 1;
    model.services[0].limits.queue_timeout_ms = 10'000;
  });
  Peer& first = connect_and_send(request() + request());  // the second comes with the slot's end
  world_.run_for(20ms);
  Peer& waits = connect_and_send(request());
  world_.run_for(20ms);
  ASSERT_EQ(asked.size(), 1U);
  asked[0]->send(kOk);
  world_.run_for(20ms);
  ASSERT_EQ(asked.size(), 2U);
  asked[1]->send(kOk);
  world_.run_for(20ms);
  EXPECT_EQ(waits.received, kOk);
  EXPECT_EQ(first.received, kOk);
  ASSERT_EQ(asked.size(), 3U);
  asked[2]->send(kOk);
  world_.run_for(20ms);
  EXPECT_EQ(first.received, std::string{kOk} + std::string{kOk});
}

TEST_F(Attempts, ManyEndpointsAtTheirLimitOfConnectionsMakeRequestsWait) {
  const std::vector<testing::Handler> handlers(20, [](Peer&) {});
  serve_all(handlers, [](control::Model& model) {
    model.services[0].limits.connections_per_endpoint = 1;
    model.services[0].limits.queue_timeout_ms = 200;
  });
  for (int i = 0; i < 21; ++i)
    connect_and_send(request());
  world_.run_for(100ms);
  EXPECT_EQ(outcomes(), "");
  world_.run_for(200ms);
  EXPECT_EQ(outcomes(), "503 overloaded");
}

TEST_F(Attempts, ConnectionsBeyondTheLimitAreNotOpened) {
  const auto backends = serve_all({[](Peer&) {}, [](Peer&) {}}, [](control::Model& model) {
    model.services[0].limits.connections_per_endpoint = 2;
    model.services[0].limits.queue_timeout_ms = 200;
  });
  for (int i = 0; i < 6; ++i)
    connect_and_send(request());
  world_.run_for(300ms);
  EXPECT_EQ(backends[0]->connections.size(), 2U);
  EXPECT_EQ(backends[1]->connections.size(), 2U);
  EXPECT_EQ(outcomes(), "503 overloaded, 503 overloaded");
}

// ---- sessions ----------------------------------------------------------------------------------

class Sessions : public Attempts {
 protected:
  static std::string named(std::string_view name) {
    return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", name.size(), name);
  }
  std::string ask_with(std::string_view cookie) {
    Peer& client = connect_and_send(
        request("GET", cookie.empty() ? "" : fmt::format("Cookie: a=1; {}\r\n", cookie)));
    world_.run_for(20ms);
    return client.received;
  }
  static std::string cookie_of(const std::string& answer) {
    const auto message = first_message(answer);
    const auto field = message ? message->field("Set-Cookie") : std::nullopt;
    return field ? field->substr(0, field->find(';')) : "";
  }
};

TEST_F(Sessions, AClientStaysWithItsEndpointWhenOthersAreAdded) {
  const std::vector<testing::Handler> handlers{answering(named("a")), answering(named("b")),
                                               answering(named("c"))};
  const auto edit = [](control::Model& model) {
    model.http_routes[0].rules[0].session = control::SessionPersistence{"shop", 0};
  };
  serve_all({handlers[0], handlers[1]}, edit);
  const std::string answer = ask_with("");
  const std::string body = first_message(answer)->body;
  const std::string cookie = cookie_of(answer);
  EXPECT_THAT(answer, HasSubstr("Set-Cookie: shop="));
  EXPECT_THAT(answer, HasSubstr("; Path=/; HttpOnly; SameSite=Lax\r\n"));
  for (int i = 0; i < 6; ++i) {
    const std::string again = ask_with(cookie);
    EXPECT_EQ(first_message(again)->body, body);
    EXPECT_THAT(again, Not(HasSubstr("Set-Cookie")));
  }
  Backend& added = world_.add_backend(8003, handlers[2]);
  control::Model model = ProxyWorld::model_for(
      {added.endpoint, ProxyWorld::backend_endpoint(8002), ProxyWorld::backend_endpoint(8001)});
  edit(model);
  world_.install(model);
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(first_message(ask_with(cookie))->body, body);
}

TEST_F(Sessions, AnEndpointThatIsGoneOrForgedIsReplacedByANewOne) {
  serve_all({nullptr, answering(named("b"))}, [](control::Model& model) {
    model.http_routes[0].rules[0].session = control::SessionPersistence{"shop", 60};
  });
  for (const std::string_view cookie : {"shop=0123456789abcdef", "shop=", "shop=x"}) {
    const std::string answer = ask_with(cookie);
    EXPECT_EQ(first_message(answer)->body, "b");
    EXPECT_THAT(answer, HasSubstr("; Max-Age=60\r\n"));
  }
}

TEST_F(Sessions, KeepOneSideOfASplit) {
  Backend& one = world_.add_backend(8001, answering(named("one")));
  Backend& two = world_.add_backend(8002, answering(named("two")));
  control::Model model = ProxyWorld::model_for({one.endpoint});
  model.services.push_back({.name = "canary", .endpoints = {{two.endpoint}}});
  model.http_routes[0].rules[0].backends = {{"app", 1}, {"canary", 1}};
  model.http_routes[0].rules[0].session = control::SessionPersistence{"side", 0};
  world_.install(model);
  for (int i = 0; i < 4; ++i) {
    const std::string answer = ask_with("");
    for (int k = 0; k < 4; ++k)
      EXPECT_EQ(first_message(ask_with(cookie_of(answer)))->body, first_message(answer)->body);
  }
}

}  // namespace
}  // namespace weir::proxy
