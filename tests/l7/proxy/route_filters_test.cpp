#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "l7/proxy/path_edit.h"
#include "tests/l7/proxy/core_fixture.h"

// What a route changes: redirects, answers of its own, rewrites, header edits.

namespace weir::proxy {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Kind = control::PathEdit::Kind;

// ---- paths alone -------------------------------------------------------------------------------

struct PathCase {
  std::string_view name;
  Kind kind;
  std::string_view value;
  std::string_view path;
  std::size_t prefix_size;
  std::string_view result;
  std::string_view pattern = "";
};
class PathEdits : public ::testing::TestWithParam<PathCase> {};

TEST_P(PathEdits, GiveTheNewPath) {
  const PathCase& c = GetParam();
  const control::PathEdit edit{c.kind, std::string{c.value}, std::string{c.pattern}};
  std::optional<PathPattern> pattern;
  if (c.kind == Kind::kRegex) pattern.emplace(edit);
  EXPECT_EQ(edited_path(edit, pattern ? &*pattern : nullptr, c.path, c.prefix_size), c.result);
}

// The rows of prefixes are those of the Gateway API's table (HTTPPathModifier).
INSTANTIATE_TEST_SUITE_P(
    , PathEdits,
    ::testing::Values(
        PathCase{"Kept", Kind::kKeep, "", "/a/b", 2, "/a/b"},
        PathCase{"Full", Kind::kFull, "/new", "/a/b", 2, "/new"},
        PathCase{"PrefixAndMore", Kind::kPrefix, "/xyz", "/foo/bar", 4, "/xyz/bar"},
        PathCase{"PrefixWithASlash", Kind::kPrefix, "/xyz/", "/foo/bar", 4, "/xyz/bar"},
        PathCase{"PrefixAlone", Kind::kPrefix, "/xyz", "/foo", 4, "/xyz"},
        PathCase{"PrefixWithTheRequestsSlash", Kind::kPrefix, "/xyz", "/foo/", 4, "/xyz/"},
        PathCase{"PrefixToTheRoot", Kind::kPrefix, "/", "/foo/bar", 4, "/bar"},
        PathCase{"PrefixAloneToTheRoot", Kind::kPrefix, "/", "/foo", 4, "/"},
        PathCase{"PrefixWithASlashToTheRoot", Kind::kPrefix, "/", "/foo/", 4, "/"},
        PathCase{"TheRootToAPrefix", Kind::kPrefix, "/xyz", "/foo", 0, "/xyz/foo"},
        PathCase{"Captures", Kind::kRegex, "/\\2/\\1", "/v1/cart", 0, "/cart/v1",
                 "/(v[0-9]+)/(.*)"},
        PathCase{"AnExpressionThatDoesNotMatch", Kind::kRegex, "/\\1", "/other", 0, "/other",
                 "/(v[0-9]+)/.*"}),
    [](const auto& param) { return std::string{param.param.name}; });

// ---- through the proxy -------------------------------------------------------------------------

class RouteFilters : public ProxyCore {
 protected:
  /// One backend behind one rule for /app, which `edit` changes.
  Backend& serve_with(const std::function<void(control::RouteRule&)>& edit) {
    Backend& backend = world_.add_backend(8001, answering(std::string{kOk}));
    control::Model model = ProxyWorld::model_for({backend.endpoint});
    control::RouteRule& rule = model.http_routes[0].rules[0];
    rule.matches = {{control::PathMatchKind::kPrefix, "/app", std::nullopt, {}}};
    edit(rule);
    world_.install(model);
    return backend;
  }
  std::string ask(std::string_view target, std::string_view method = "GET",
                  std::string_view fields = "") {
    Peer& client = connect_and_send(
        fmt::format("{} {} HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", method, target, fields));
    world_.run_for(10ms);
    return client.received;
  }
};

TEST_F(RouteFilters, ARedirectSaysWhereAndKeepsTheRest) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.redirect.emplace();
    rule.redirect->scheme = "https";
    rule.redirect->hostname = "new.example";
    rule.redirect->path = {Kind::kPrefix, "/shop", {}};
    rule.redirect->status = 308;
    rule.response_headers.set = {{"X-Why", "moved"}};
  });
  const std::string answer = ask("/app/cart?a=1&b=%2F");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 308 Permanent Redirect\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nLocation: https://new.example/shop/cart?a=1&b=%2F\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nX-Why: moved\r\n"));
  EXPECT_EQ(backend.received(), "");
  EXPECT_EQ(outcomes(), "308 redirect");
}

TEST_F(RouteFilters, ARedirectWithoutASchemeKeepsTheListenersAndItsPort) {
  serve_with([](control::RouteRule& rule) {
    rule.redirect.emplace();
    rule.redirect->path = {Kind::kFull, "/gone", {}};
  });
  EXPECT_THAT(ask("/app?x"), HasSubstr("\r\nLocation: http://shop.example/gone?x\r\n"));
  EXPECT_EQ(outcomes(), "302 redirect");
}

TEST_F(RouteFilters, AFixedResponseNeedsNoBackendAndKeepsTheConnection) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.respond = control::FixedResponse{418, "text/html", "<p>no</p>"};
    rule.backends.clear();
  });
  Peer& client = connect_and_send(request() + request("HEAD"));
  world_.run_for(10ms);
  const std::size_t second = client.received.rfind("HTTP/1.1 418");
  EXPECT_THAT(client.received, StartsWith("HTTP/1.1 418 "));
  EXPECT_GT(second, 0U);
  const std::string first = client.received.substr(0, second);
  EXPECT_THAT(first, HasSubstr("\r\nContent-Type: text/html\r\n"));
  EXPECT_THAT(first, HasSubstr("\r\nContent-Length: 9\r\n"));
  EXPECT_TRUE(first.ends_with("\r\n\r\n<p>no</p>")) << first;
  EXPECT_TRUE(client.received.ends_with("\r\n\r\n")) << "an answer to HEAD has no body";
  EXPECT_EQ(backend.received(), "");
  EXPECT_EQ(outcomes(), "418 fixed_response, 418 fixed_response");
}

TEST_F(RouteFilters, AFixedResponseWithoutABodyHasNoType) {
  serve_with([](control::RouteRule& rule) { rule.respond = control::FixedResponse{204, "", ""}; });
  const std::string answer = ask("/app");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Type")));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Length"))) << "RFC 9110, section 8.6";
}

TEST_F(RouteFilters, AFixedResponseThatNothingHasChangedHasNoLength) {
  serve_with([](control::RouteRule& rule) { rule.respond = control::FixedResponse{304, "", ""}; });
  Peer& client = connect_and_send(request() + request());
  world_.run_for(10ms);
  EXPECT_THAT(client.received, Not(HasSubstr("Content-Length"))) << "RFC 9110, section 8.6";
  EXPECT_EQ(outcomes(), "304 fixed_response, 304 fixed_response");
}

TEST_F(RouteFilters, ARewriteChangesWhatTheBackendIsAskedFor) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.rewrite.emplace();
    rule.rewrite->hostname = "internal.example";
    rule.rewrite->path = {Kind::kPrefix, "/", {}};
  });
  EXPECT_THAT(ask("/app/cart?x=/app"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(backend.received(), StartsWith("GET /cart?x=/app HTTP/1.1\r\n"));
  EXPECT_THAT(backend.received(), HasSubstr("\r\nHost: internal.example\r\n"));
  EXPECT_THAT(backend.received(), HasSubstr("\r\nX-Forwarded-Host: shop.example\r\n"));
}

TEST_F(RouteFilters, AnExpressionRewritesTheWholePath) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.rewrite.emplace();
    rule.rewrite->path = {Kind::kRegex, "/\\1.php", "/app/(.*)"};
  });
  ask("/app/index?q=1");
  EXPECT_THAT(backend.received(), StartsWith("GET /index.php?q=1 HTTP/1.1\r\n"));
}

TEST_F(RouteFilters, HeadersAreRemovedThenSetThenAdded) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.request_headers = {
        .set = {{"X-Env", "prod"}}, .add = {{"X-Tag", "b"}}, .remove = {"X-Secret", "x-env"}};
    rule.response_headers = {
        .set = {{"Server", "none"}}, .add = {{"X-Tag", "c"}}, .remove = {"Content-Type"}};
  });
  const std::string answer =
      ask("/app", "GET", "X-Secret: s\r\nX-Env: test\r\nx-env: two\r\nX-Tag: a\r\n");
  const std::string seen = backend.received();
  EXPECT_THAT(seen, Not(HasSubstr("Secret")));
  EXPECT_THAT(seen, HasSubstr("\r\nX-Env: prod\r\n"));
  EXPECT_THAT(seen, Not(HasSubstr("test")));
  EXPECT_THAT(seen, Not(HasSubstr("two")));
  EXPECT_THAT(seen, HasSubstr("\r\nX-Tag: a\r\n"));
  EXPECT_THAT(seen, HasSubstr("\r\nX-Tag: b\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nServer: none\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nX-Tag: c\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Type")));
}

TEST_F(RouteFilters, NoRouteCanSpeakForAClientsCertificate) {
  Backend& backend = serve_with([](control::RouteRule& rule) {
    rule.request_headers.set = {{"Client-Cert", ":Zm9yZ2Vk:"}};
  });
  ask("/app");
  EXPECT_THAT(backend.received(), Not(HasSubstr("Client-Cert")));
}

TEST_F(RouteFilters, AnAnswerForWhichThereIsNoRoomEndsTheConnectionAndIsNotTakenForTheNext) {
  serve_with([](control::RouteRule& rule) {
    rule.redirect.emplace();
    rule.redirect->scheme = "https";
    rule.response_headers.set = {{"Content-Security-Policy", std::string(4000, 'a')}};
  });
  Peer& client = world_.connect();
  client.read_limit = 1000;
  const std::string target = "/app/" + std::string(7000, 'x');
  for (int i = 0; i < 60; ++i)
    client.send(fmt::format("GET {} HTTP/1.1\r\nHost: shop.example\r\n\r\n", target));
  world_.run_for(2s);
  client.read_limit = std::numeric_limits<std::size_t>::max();
  world_.run_for(2s);
  // Whole answers, one after the other, and then perhaps an end; never a part of one.
  std::string_view rest = client.received;
  std::size_t answers = 0;
  while (const auto message = first_message(rest)) {
    EXPECT_EQ(message->status(), 302);
    rest.remove_prefix(message->size);
    ++answers;
  }
  EXPECT_EQ(rest, "");
  EXPECT_GT(answers, 3U);
  EXPECT_TRUE(answers == 60 || client.gone()) << answers;
}

}  // namespace
}  // namespace weir::proxy
