#include <benchmark/benchmark.h>
#include <fmt/format.h>
#ifdef WEIR_HAVE_LLHTTP
#include <llhttp/llhttp.h>
#endif

#include <string>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/base/random.h"
#include "l7/http/h1.h"

namespace weir::http {
namespace {

constexpr std::size_t kRequestBytes = 534;
constexpr std::size_t kVariants = 512;  // 267 KiB: beyond the first-level cache

/// What a browser sends, with other paths and cookies each time, always of the same size.
std::vector<std::string> browser_requests() {
  constexpr std::uint64_t kSeed = 3;
  Random random{kSeed};
  std::vector<std::string> requests;
  for (std::size_t i = 0; i < kVariants; ++i) {
    std::string request = fmt::format(
        "GET /catalogue/item-{}/images?size={} HTTP/1.1\r\n"
        "Host: www.shop.example\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n"
        "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
        "Accept-Encoding: gzip, deflate, br\r\n"
        "Referer: https://www.shop.example/catalogue/{}\r\n"
        "Connection: keep-alive\r\n"
        "Upgrade-Insecure-Requests: 1\r\n"
        "Cookie: session=",
        random.below(1'000'000), random.below(1000), random.below(10'000));
    while (request.size() < kRequestBytes - 4)
      request.push_back(static_cast<char>('a' + random.below(26)));
    request += "\r\n\r\n";
    WEIR_ASSERT(request.size() == kRequestBytes);  // the template above is shorter
    requests.push_back(std::move(request));
  }
  return requests;
}

/// How long does a request head take from bytes to fields, framing and limits, all checked?
/// Expected: a few hundred nanoseconds.
void parse_request(benchmark::State& state) {
  const auto requests = browser_requests();
  RequestParser parser;
  std::size_t i = 0;
  for (auto _ : state) {
    parser.reset();
    const ParseResult result = parser.parse(as_bytes(requests[i++ % kVariants]));
    WEIR_ASSERT(result.consumed == kRequestBytes);
    benchmark::DoNotOptimize(parser.head().fields[0].value.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kRequestBytes));
}
BENCHMARK(parse_request);

/// The same, arriving in two segments: the second call must not start over.
void parse_request_in_two_pieces(benchmark::State& state) {
  const auto requests = browser_requests();
  RequestParser parser;
  std::size_t i = 0;
  for (auto _ : state) {
    parser.reset();
    const auto bytes = as_bytes(requests[i++ % kVariants]);
    const ParseResult first = parser.parse(bytes.first(kRequestBytes / 2));
    benchmark::DoNotOptimize(first.outcome);
    const ParseResult result = parser.parse(bytes);
    WEIR_ASSERT(result.consumed == kRequestBytes);
  }
}
BENCHMARK(parse_request_in_two_pieces);

/// All that HTTP costs on the way to a backend: parse, resolve host and path, hop-by-hop and
/// forwarding fields, write. Expected: about twice the parser.
void forward_request(benchmark::State& state) {
  const auto requests = browser_requests();
  RequestParser parser;
  RequestUri uri;
  std::vector<std::byte> out;
  std::size_t i = 0;
  for (auto _ : state) {
    parser.reset();
    out.clear();
    const ParseResult result = parser.parse(as_bytes(requests[i++ % kVariants]));
    WEIR_ASSERT(result.consumed == kRequestBytes);
    RequestHead& head = parser.head();
    const auto refusal = uri.resolve(head);
    WEIR_ASSERT(!refusal);
    remove_hop_by_hop(head.fields);
    set_forwarded(head.fields, {"192.0.2.7", "https", uri.authority()});
    head.target = uri.target();
    append_request_head(out, head, parser.framing().body);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(forward_request);

#ifdef WEIR_HAVE_LLHTTP
int count_span(llhttp_t* parser, const char*, std::size_t size) {
  *static_cast<std::size_t*>(parser->data) += size;
  return 0;
}

/// The peer: llhttp in strict mode, whose callbacks only add up sizes. It copies nothing and
/// checks less (see tests/l7/http/differential_test.cpp).
void llhttp_request(benchmark::State& state) {
  const auto requests = browser_requests();
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_url = count_span;
  settings.on_header_field = count_span;
  settings.on_header_value = count_span;
  llhttp_t parser;
  llhttp_init(&parser, HTTP_REQUEST, &settings);
  std::size_t spans = 0;
  parser.data = &spans;
  std::size_t i = 0;
  for (auto _ : state) {
    const std::string& request = requests[i++ % kVariants];
    const llhttp_errno_t error = llhttp_execute(&parser, request.data(), request.size());
    WEIR_ASSERT(error == HPE_OK);
  }
  benchmark::DoNotOptimize(spans);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kRequestBytes));
}
BENCHMARK(llhttp_request);
#endif

}  // namespace
}  // namespace weir::http

BENCHMARK_MAIN();
