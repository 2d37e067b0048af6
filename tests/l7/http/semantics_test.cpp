#include "l7/http/semantics.h"

#include <gtest/gtest.h>

#include "l4/base/random.h"

namespace weir::http {
namespace {

struct PathCase {
  std::string_view path;
  std::string_view normal;  ///< empty: refused
};

constexpr PathCase kPathCases[] = {
    {"/", "/"},
    {"/a/b", "/a/b"},
    {"/a/b/", "/a/b/"},
    {"//a///b//", "/a/b/"},
    {"/./a/./b/.", "/a/b/"},
    {"/a/../b", "/b"},
    {"/a/b/..", "/a/"},
    {"/a/b/../", "/a/"},
    {"/..", "/"},
    {"/../../a", "/a"},
    {"/a/../../b", "/b"},
    {"/a//../b", "/b"},  // the empty segment is merged first: there is nothing in it to leave
    {"/...", "/..."},
    {"/.a/..b", "/.a/..b"},
    {"/%61%7E%2D", "/a~-"},
    {"/%2e%2e/a", "/a"},
    {"/a/%2E/b", "/a/b"},
    {"/a/.%2e/b", "/b"},
    {"/%c3%a9", "/%C3%A9"},
    {"/%20%3b%3B", "/%20%3B%3B"},
    {"/%2525", "/%2525"},
    {"/a;x=1/b;y", "/a/b"},
    {"/admin;/x", "/admin/x"},
    {"/a/..;x/b", "/b"},
    {"/a/.;/b", "/a/b"},
    {"/a/;x/b", "/a/b"},
    {"/a/%2e%2e;x/b", "/b"},
    {"/a|{}", "/a|{}"},
    {"", ""},
    {"a", ""},
    {"*", ""},
    {"/%", ""},
    {"/%4", ""},
    {"/%4g", ""},
    {"/%g4", ""},
    {"/%-1", ""},
    {"/a%00", ""},
    {"/a%2fb", ""},
    {"/a%2Fb", ""},
    {"/a%5cb", ""},
    {"/a\\b", ""},
    {"/a;%2f", ""},
    {"/a;%00", ""},
    {"/%4/1", ""},
};

TEST(NormalizePath, KnowsOneSpellingOfEachPath) {
  for (const PathCase& c : kPathCases) {
    std::string path{c.path};
    const auto refusal = normalize_path(path);
    EXPECT_EQ(refusal.has_value(), c.normal.empty()) << c.path;
    if (refusal) {
      EXPECT_EQ(refusal->status, Status::kBadRequest) << c.path;
    } else {
      EXPECT_EQ(path, c.normal) << c.path;
    }
  }
}

TEST(NormalizePath, ASecondTimeChangesNothing) {
  constexpr std::uint64_t kSeed = 5;
  constexpr std::string_view kPieces[] = {"/", ".", "..", "%2e", "%41", "%2525", ";", "a", "%c3"};
  Random random{kSeed};
  for (int round = 0; round < 20'000; ++round) {
    std::string path = "/";
    for (auto i = random.below(12); i > 0; --i)
      path += kPieces[random.below(static_cast<std::uint32_t>(std::size(kPieces)))];
    std::string once = path;
    if (normalize_path(once)) continue;
    std::string twice = once;
    EXPECT_FALSE(normalize_path(twice).has_value());
    EXPECT_EQ(twice, once) << path << ", seed " << kSeed;
    EXPECT_LE(once.size(), path.size() + 1) << path;
    EXPECT_TRUE(once.starts_with('/')) << path;
    EXPECT_EQ((once + "/").find("/../"), std::string::npos) << path;
    EXPECT_EQ((once + "/").find("/./"), std::string::npos) << path;
    EXPECT_EQ(once.find("//"), std::string::npos) << path;
  }
}

struct TargetCase {
  std::string_view method;
  std::string_view target;
  TargetForm form;
  std::string_view authority;
  std::string_view path;  ///< empty with an empty authority: refused
  std::string_view query;
};

constexpr TargetCase kTargetCases[] = {
    {"GET", "/a?b?c", TargetForm::kOrigin, "", "/a", "?b?c"},
    {"GET", "/", TargetForm::kOrigin, "", "/", ""},
    {"GET", "//evil/x", TargetForm::kOrigin, "", "//evil/x", ""},
    {"OPTIONS", "*", TargetForm::kAsterisk, "", "*", ""},
    {"GET", "http://h:1/a?b", TargetForm::kAbsolute, "h:1", "/a", "?b"},
    {"GET", "HTTPS://h", TargetForm::kAbsolute, "h", "/", ""},
    {"GET", "http://h?b", TargetForm::kAbsolute, "h", "/", "?b"},
    {"OPTIONS", "http://h", TargetForm::kAbsolute, "h", "*", ""},
    {"CONNECT", "h:443", TargetForm::kAuthority, "h:443", "", ""},
    {"GET", "", {}, "", "", ""},
    {"GET", "*", {}, "", "", ""},
    {"OPTIONS", "*a", {}, "", "", ""},
    {"GET", "a/b", {}, "", "", ""},
    {"GET", "h:443", {}, "", "", ""},
    {"GET", "http:/a", {}, "", "", ""},
    {"GET", "http:///a", {}, "", "", ""},
    {"GET", "ftp://h/a", {}, "", "", ""},
    {"GET", "://h/a", {}, "", "", ""},
    {"GET", "?a", {}, "", "", ""},
};

TEST(ParseTarget, KnowsTheFourForms) {
  for (const TargetCase& c : kTargetCases) {
    const auto target = parse_target(c.method, c.target);
    const bool is_refused = c.path.empty() && c.authority.empty();
    ASSERT_EQ(static_cast<bool>(target), !is_refused) << c.method << " " << c.target;
    if (is_refused) continue;
    EXPECT_EQ(target->form, c.form) << c.target;
    EXPECT_EQ(target->authority, c.authority) << c.target;
    EXPECT_EQ(target->path, c.path) << c.target;
    EXPECT_EQ(target->query, c.query) << c.target;
  }
}

RequestHead request(std::string_view method, std::string_view target, std::string_view host) {
  RequestHead head;
  head.method = method;
  head.target = target;
  if (!host.empty()) head.fields.add("Host", host);
  return head;
}

TEST(RequestUri, BringsHostAndPathIntoOneSpelling) {
  RequestUri uri;
  ASSERT_FALSE(uri.resolve(request("GET", "/a/../%62?C=%64", "Shop.EXAMPLE.:0443")).has_value());
  EXPECT_EQ(uri.host(), "shop.example");
  EXPECT_EQ(uri.port(), 443);
  EXPECT_EQ(uri.authority(), "shop.example:443");
  EXPECT_EQ(uri.path(), "/b");
  EXPECT_EQ(uri.query(), "?C=%64");
  EXPECT_EQ(uri.target(), "/b?C=%64");
}

TEST(RequestUri, TheAuthorityOfTheTargetWinsOverHost) {
  RequestUri uri;
  ASSERT_FALSE(uri.resolve(request("GET", "http://real/x", "other:99")).has_value());
  EXPECT_EQ(uri.authority(), "real");
  EXPECT_EQ(uri.port(), std::nullopt);
  EXPECT_EQ(uri.target(), "/x");
}

TEST(RequestUri, ForgetsThePreviousRequest) {
  RequestUri uri;
  ASSERT_FALSE(uri.resolve(request("GET", "/a?b", "h:1")).has_value());
  ASSERT_FALSE(uri.resolve(request("OPTIONS", "*", "")).has_value());
  EXPECT_EQ(uri.host(), "");
  EXPECT_EQ(uri.authority(), "");
  EXPECT_EQ(uri.port(), std::nullopt);
  EXPECT_EQ(uri.path(), "*");
  EXPECT_EQ(uri.query(), "");
}

TEST(RequestUri, RefusesWhatAGatewayDoesNotDo) {
  RequestUri uri;
  const auto status = [&](const RequestHead& head) {
    const auto refusal = uri.resolve(head);
    return refusal ? number_of(refusal->status) : 0;
  };
  EXPECT_EQ(status(request("CONNECT", "h", "h")), 400);
  EXPECT_EQ(status(request("CONNECT", "h:70000", "h:70000")), 400);
  EXPECT_EQ(status(request("GET", "http://user@h/", "h")), 400);
  EXPECT_EQ(status(request("GET", "/%2f", "h")), 400);
  EXPECT_EQ(status(request("GET", "*", "h")), 400);
}

TEST(RequestUri, OfATunnelIsHostAndPortAlone) {
  RequestUri uri;
  ASSERT_FALSE(uri.resolve(request("CONNECT", "H.example:443", "other")));
  EXPECT_EQ(uri.host(), "h.example");
  EXPECT_EQ(uri.port(), 443);
  EXPECT_EQ(uri.authority(), "h.example:443");
  EXPECT_EQ(uri.path(), "");
  EXPECT_EQ(uri.target(), "");
}

TEST(RequestUri, KeepsIpv6Brackets) {
  RequestUri uri;
  ASSERT_FALSE(uri.resolve(request("GET", "/", "[2001:DB8::1]:80")).has_value());
  EXPECT_EQ(uri.host(), "[2001:db8::1]");
  EXPECT_EQ(uri.authority(), "[2001:db8::1]:80");
}

std::string names_of(const HeaderList& fields) {
  std::string names;
  for (const Field field : fields)
    names.append(field.name).append(" ");
  return names;
}

TEST(HopByHop, WhatIsMeantForTheNextHopGoes) {
  HeaderList fields;
  for (const std::string_view name :
       {"Host", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
        "Proxy-Authenticate", "proxy-authorization", "Accept", "connection"})
    fields.add(name, "x");
  remove_hop_by_hop(fields);
  EXPECT_EQ(names_of(fields), "Host Accept ");
}

TEST(HopByHop, WhatConnectionNamesGoes) {
  HeaderList fields;
  fields.add("X-One", "");
  fields.add("Connection", "x-one, close");
  fields.add("Connection", " X-TWO ,,connection");
  fields.add("X-Two", "");
  fields.add("X-Three", "");
  remove_hop_by_hop(fields);
  EXPECT_EQ(names_of(fields), "X-Three ");
}

TEST(HopByHop, ConnectionCannotStripTheMeaningOfAMessage) {
  HeaderList fields;
  fields.add("Connection", "host, content-length, AUTHORIZATION, cookie, content-type, forwarded");
  for (const std::string_view name :
       {"Host", "Content-Length", "Authorization", "Cookie", "Content-Type", "Forwarded"})
    fields.add(name, "x");
  remove_hop_by_hop(fields);
  EXPECT_EQ(names_of(fields), "Host Content-Length Authorization Cookie Content-Type Forwarded ");
}

TEST(Forwarded, OverwritesWhatTheClientClaims) {
  HeaderList fields;
  for (const std::string_view name :
       {"X-Forwarded-For", "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded",
        "X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Client-Cert"})
    fields.add(name, "forged");
  set_forwarded(fields, {"192.0.2.7", "https", "a.example:8443"});
  EXPECT_EQ(fields.size(), 4U);
  EXPECT_EQ(fields.find("x-forwarded-for"), "192.0.2.7");
  EXPECT_EQ(fields.find("x-forwarded-proto"), "https");
  EXPECT_EQ(fields.find("x-forwarded-host"), "a.example:8443");
  EXPECT_EQ(fields.find("forwarded"), "for=192.0.2.7;host=\"a.example:8443\";proto=https");
  set_forwarded(fields, {"2001:db8::7", "http", "[::1]"});
  EXPECT_EQ(fields.find("forwarded"), "for=\"[2001:db8::7]\";host=\"[::1]\";proto=http");
}

TEST(Reframing, DependsOnWhatTheClientUnderstands) {
  const BodyFraming length{BodyKind::kLength, 5};
  const BodyFraming chunked{BodyKind::kChunked, 0};
  const BodyFraming until_close{BodyKind::kUntilClose, 0};
  EXPECT_EQ(reframed_for_client(length, 0), length);
  EXPECT_EQ(reframed_for_client({}, 1), BodyFraming{});
  EXPECT_EQ(reframed_for_client(chunked, 1), chunked);
  EXPECT_EQ(reframed_for_client(chunked, 0), until_close);
  EXPECT_EQ(reframed_for_client(until_close, 1), chunked);
  EXPECT_EQ(reframed_for_client(until_close, 0), until_close);
}

TEST(Syntax, OfTokensValuesAndLists) {
  EXPECT_TRUE(is_token("a-B9!"));
  EXPECT_FALSE(is_token(""));
  EXPECT_FALSE(is_token("a b"));
  EXPECT_TRUE(is_field_value(""));
  EXPECT_TRUE(is_field_value("a\tb \xff"));
  EXPECT_FALSE(is_field_value(" a"));
  EXPECT_FALSE(is_field_value("a\r\nb"));
  EXPECT_EQ(trim_white_space(" \t a b \t"), "a b");
  EXPECT_EQ(trim_white_space(" \t"), "");
  HeaderList fields;
  fields.add("Connection", "a, ,b");
  fields.add("connection", "Close");
  EXPECT_TRUE(lists(fields, "Connection", "close"));
  EXPECT_TRUE(lists(fields, "Connection", "A"));
  EXPECT_FALSE(lists(fields, "Connection", "a, "));
  EXPECT_FALSE(lists(fields, "Via", "a"));
}

}  // namespace
}  // namespace weir::http
