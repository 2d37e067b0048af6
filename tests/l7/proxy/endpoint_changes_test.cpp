#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/l7/proxy/core_fixture.h"
#include "tests/l7/proxy/tls_peers.h"
#include "tests/l7/tls/certificates.h"

// Endpoints that come and go under one configuration, as names lead to other addresses.

namespace weir::proxy {
namespace {

using ::testing::EndsWith;

class EndpointChanges : public ProxyCore {
 protected:
  /// The ports of the endpoints that there are now; all of one name.
  control::Model model_of(const std::vector<std::uint16_t>& ports,
                          const std::string& name = "app.internal") {
    control::Model model = ProxyWorld::model_for({});
    for (const std::uint16_t port : ports)
      model.services[0].endpoints.push_back(
          {.endpoint = ProxyWorld::backend_endpoint(port), .hostname = name});
    edit_(model);
    return model;
  }
  void serve_at(std::uint16_t port, testing::Handler handler = answering(std::string{kOk})) {
    backends_[port] = &world_.add_backend(port, std::move(handler));
  }
  std::size_t asked(std::uint16_t port) const {
    std::size_t count = 0;
    for (const Peer* peer : backends_.at(port)->connections)
      count += peer->requests;
    return count;
  }

  std::map<std::uint16_t, Backend*> backends_;
  std::function<void(control::Model&)> edit_ = [](control::Model&) {};
};

TEST_F(EndpointChanges, AreFollowedByTheNextRequestOfAConnectionThatStays) {
  serve_at(8001);
  serve_at(8002);
  world_.install(model_of({8001}));
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  world_.install_endpoints(model_of({8002}));
  client.send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, std::string{kOk} + std::string{kOk});
  EXPECT_EQ(asked(8001), 1U);
  EXPECT_EQ(asked(8002), 1U);
  EXPECT_EQ(world_.report().revision, 1U);
  EXPECT_EQ(outcomes(), "200 ok, 200 ok");
}

TEST_F(EndpointChanges, LetARequestToAnEndpointThatIsGoneEnd) {
  std::vector<Peer*> waiting;
  serve_at(8001, [&](Peer& peer) {
    if (!peer.received.empty() && peer.requests++ == 0) waiting.push_back(&peer);
  });
  serve_at(8002);
  world_.install(model_of({8001}));
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  ASSERT_EQ(waiting.size(), 1U);
  world_.install_endpoints(model_of({8002}));
  world_.run_for(1s);
  EXPECT_EQ(client.received, "");
  waiting[0]->send(kOk);
  world_.run_for(20ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(outcomes(), "200 ok");
}

TEST_F(EndpointChanges, KeepConnectionsToEndpointsThatStayAndWhatIsKnownOfThem) {
  serve_at(8001);
  serve_at(8002);
  world_.install(model_of({8001}));
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  world_.install_endpoints(model_of({8001, 8002}));
  world_.install_endpoints(model_of({8001}));
  client.send(request());
  world_.run_for(20ms);
  EXPECT_EQ(backends_[8001]->connections.size(), 1U);
  EXPECT_EQ(world_.report().upstream.reused, 1U);
}

TEST_F(EndpointChanges, AHundredTimesTellNoClientToLeaveAndPileNothingUp) {
  serve_at(8001);
  serve_at(8002);
  world_.install(model_of({8001}));
  std::vector<Peer*> clients;
  for (int i = 0; i < 100; ++i) {
    // Each accepted under another set of endpoints.
    clients.push_back(&connect_and_send(request()));
    world_.run_for(10ms);
    world_.install_endpoints(i % 2 == 0 ? model_of({8002}) : model_of({8001, 8002}));
  }
  world_.run_for(10ms);
  EXPECT_EQ(world_.report().core.generations, 2U) << "the base, and the one in use";
  for (Peer* client : clients) {
    client->send(request());
    world_.run_for(10ms);
    EXPECT_EQ(client->received, std::string{kOk} + std::string{kOk});
    EXPECT_FALSE(client->ended());
  }
  // The end of the configuration is the end of all.
  world_.install(model_of({8001}));
  for (Peer* client : clients)
    client->finish();
  world_.run_for(100ms);
  EXPECT_EQ(world_.report().core.generations, 1U);
}

TEST_F(EndpointChanges, OfAConfigurationThatAWorkerDoesNotHaveAreLeft) {
  serve_at(8001);
  world_.install(model_of({8001}));
  const std::shared_ptr<const Snapshot> other = build_snapshot(model_of({}), 7);
  ASSERT_TRUE(world_.worker().install_endpoints(Generation::of_same_configuration(other)));
  Peer& client = connect_and_send(request());
  world_.run_for(20ms);
  EXPECT_EQ(client.received, kOk);
  EXPECT_EQ(world_.report().core.generations, 1U);
}

TEST_F(EndpointChanges, ToNoneAreAnsweredByUsAndTheLogSaysWhy) {
  serve_at(8001);
  for (const auto policy : {control::LoadBalancer::kRoundRobin,
                            control::LoadBalancer::kLeastRequest, control::LoadBalancer::kRandom,
                            control::LoadBalancer::kRingHash, control::LoadBalancer::kMaglev}) {
    edit_ = [&](control::Model& model) { model.services[0].balancing.policy = policy; };
    world_.install(model_of({}));
    Peer& client = connect_and_send(request());
    world_.run_for(20ms);
    EXPECT_EQ(client.received, own_answer("503 Service Unavailable"));
    const auto lines = log();
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0]["reason"], "no_endpoint");
    EXPECT_EQ(lines[0]["detail"], "no address of its endpoints' names is known");
    world_.install_endpoints(model_of({8001}));
    client.send(request());
    world_.run_for(20ms);
    EXPECT_THAT(client.received, EndsWith(kOk));
    EXPECT_EQ(outcomes(), "200 ok");
  }
}

// ---- with TLS to the endpoints -----------------------------------------------------------------

class NamedTlsEndpoints : public EndpointChanges {
 protected:
  NamedTlsEndpoints()
      : authority_{tls::testing::make_authority("ca", 5)},
        backend_{files_.pair("app.pem", {.names = {"app.internal"}, .issuer = &authority_})} {
    edit_ = [this](control::Model& model) { model.services[0].tls = tls_; };
    tls_.ca_file = files_.write("ca.pem", tls::testing::pem_of(authority_.certificate.get()));
    serve_at(8001, backend_.handler());
  }
  std::string outcome_of_a_request() {
    connect_and_send(request());
    world_.run_for(50ms);
    return outcomes();
  }

  tls::testing::TestFiles files_;
  tls::testing::Authority authority_;
  TlsBackend backend_;
  control::UpstreamTls tls_;
};

TEST_F(NamedTlsEndpoints, MustProveToBeWhomTheFileNames) {
  world_.install(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
  world_.install(model_of({8001}, "other.internal"));
  EXPECT_EQ(outcome_of_a_request(), "502 upstream_tls");
  world_.install(model_of({8001}, ""));
  EXPECT_EQ(outcome_of_a_request(), "502 upstream_tls") << "it is not for the address";
}

TEST_F(NamedTlsEndpoints, MustProveToBeWhomSniNamesWhereThatIsSet) {
  tls_.sni = "other.internal";
  world_.install(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "502 upstream_tls");
  tls_.sni = "app.internal";
  world_.install(model_of({8001}, "other.internal"));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
}

TEST_F(NamedTlsEndpoints, KeepTheirConnectionsWhenOthersComeAndGo) {
  world_.install(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
  for (int i = 0; i < 10; ++i) {
    world_.install_endpoints(model_of({8001, 8009}));
    world_.install_endpoints(model_of({8001}));
    EXPECT_EQ(outcome_of_a_request(), "200 ok");
  }
  EXPECT_EQ(backend_.handshakes, 1U);
  EXPECT_EQ(world_.report().upstream.reused, 10U);
  EXPECT_EQ(world_.report().core.generations, 2U);
  // Another configuration may trust others.
  world_.install(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
  EXPECT_EQ(backend_.handshakes, 2U);
}

TEST_F(NamedTlsEndpoints, DoNotLendTheirConnectionsToAnotherNameOfTheAddress) {
  world_.install(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
  world_.install_endpoints(model_of({8001}, "other.internal"));
  EXPECT_EQ(outcome_of_a_request(), "502 upstream_tls");
  world_.install_endpoints(model_of({8001}));
  EXPECT_EQ(outcome_of_a_request(), "200 ok");
  EXPECT_EQ(backend_.handshakes, 1U) << "the first connection was kept";
}

/// A client's TLS belongs to the configuration, too.
TEST_F(EndpointChanges, LetClientsShakeHandsAsBefore) {
  tls::testing::TestFiles files;
  serve_at(8001);
  serve_at(8002);
  const std::string pem = "shop.pem";
  const control::CertificateRef pair =
      files.pair(pem, {.common_name = "shop.example", .names = {"shop.example"}});
  edit_ = [&](control::Model& model) {
    model.gateways[0].listeners.push_back({"https",
                                           wire::Port{443},
                                           control::ListenerProtocol::kHttps,
                                           "",
                                           {pair},
                                           {},
                                           std::nullopt});
  };
  world_.install(model_of({8001}));
  for (const std::uint16_t port : {8002, 8001, 8002}) {
    world_.install_endpoints(model_of({port}));
    TlsClient client{world_, "shop.example"};
    client.run_for(20ms);
    ASSERT_TRUE(client.handshake_done());
    ASSERT_TRUE(client.send(request()));
    client.run_for(20ms);
    EXPECT_EQ(client.received, kOk);
    client.close();
    client.run_for(20ms);
  }
  EXPECT_EQ(asked(8001), 1U);
  EXPECT_EQ(asked(8002), 2U);
}

}  // namespace
}  // namespace weir::proxy
