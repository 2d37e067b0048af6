// What the fuzzer holds against the readers of the control plane, on every run of the unit tests:
// for the corpora, for changes of them from seeds, and for texts that are large in one way.

#include "tests/fuzz/control_properties.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "l4/base/random.h"
#include "l4/control/admin_message.h"

namespace weir::testing {
namespace {

constexpr std::uint32_t kFirstSeed = 20261128;
constexpr std::size_t kInputsOfAParser = 2'500;  // of eight

std::vector<std::string> texts_in(const std::filesystem::path& directory, const char* suffix) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    if (*suffix == '\0' || entry.path().extension() == suffix) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);  // a seed must mean the same everywhere
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    std::ifstream stream{path, std::ios::binary};
    texts.emplace_back(std::istreambuf_iterator<char>{stream}, std::istreambuf_iterator<char>{});
  }
  return texts;
}

std::vector<std::string> corpus_of(ControlParser parser) {
  const std::filesystem::path fuzz{WEIR_FUZZ_DIRECTORY};
  std::vector<std::string> texts = texts_in(fuzz / "corpus" / name_of(parser), "");
  if (parser != ControlParser::kConfig) return texts;
  for (const char* folder : {"bad", "good"}) {
    for (std::string& text : texts_in(fuzz.parent_path() / "golden" / folder, ".yaml"))
      texts.push_back(std::move(text));
  }
  return texts;
}

/// Changes a text in one of the ways that have broken parsers before.
class Changer {
 public:
  Changer(std::uint32_t seed, const std::vector<std::string>& corpus)
      : random_{seed}, corpus_{corpus} {}

  std::string text() {
    std::string text = corpus_[below(corpus_.size())];
    for (std::size_t changes = below(4); changes > 0 && !text.empty(); --changes)
      change(text);
    return text;
  }

 private:
  std::size_t below(std::size_t limit) { return random_.below(static_cast<std::uint32_t>(limit)); }

  void change(std::string& text) {
    static const std::vector<std::string> kWords{"\"",
                                                 "'",
                                                 "\\u0000",
                                                 "\\ud800",
                                                 "[",
                                                 "]",
                                                 "{",
                                                 "}",
                                                 ":",
                                                 ": ",
                                                 ",",
                                                 "- ",
                                                 "&a",
                                                 "*a",
                                                 "<<",
                                                 "%",
                                                 "\t",
                                                 "\n",
                                                 "\r\n",
                                                 "\r\n\r\n",
                                                 "0",
                                                 "-1",
                                                 "1e9",
                                                 "18446744073709551616",
                                                 "null",
                                                 "true",
                                                 "~",
                                                 "\xff",
                                                 "\xef\xbb\xbf",
                                                 "any",
                                                 "/128"};
    const std::size_t at = below(text.size());
    const std::size_t length = below(std::min<std::size_t>(text.size() - at, 64)) + 1;
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(random_.below(256));
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, std::string{text.substr(at, length)});
        break;
      case 3:
        text.insert(at, kWords[below(kWords.size())]);
        break;
      case 4: {
        const std::string& other = corpus_[below(corpus_.size())];
        if (!other.empty()) text.replace(at, std::string::npos, other, below(other.size()), 400);
        break;
      }
      default:
        text.resize(at);
        break;
    }
  }

  Random random_;
  const std::vector<std::string>& corpus_;
};

class ControlProperties : public ::testing::TestWithParam<ControlParser> {};

TEST_P(ControlProperties, HoldForTheCorpus) {
  const std::vector<std::string> corpus = corpus_of(GetParam());
  EXPECT_FALSE(corpus.empty());
  for (const std::string& text : corpus)
    EXPECT_EQ(check_control(GetParam(), text), "") << text.substr(0, 2000);
}

TEST_P(ControlProperties, HoldForChangesFromASeed) {
  const std::vector<std::string> corpus = corpus_of(GetParam());
  for (std::uint32_t seed = kFirstSeed; seed < kFirstSeed + kInputsOfAParser; ++seed) {
    const std::string text = Changer{seed, corpus}.text();
    ASSERT_EQ(check_control(GetParam(), text), "") << "seed " << seed << ":\n" << text;
  }
}

INSTANTIATE_TEST_SUITE_P(, ControlProperties, ::testing::ValuesIn(kControlParsers),
                         [](const auto& test) { return std::string{name_of(test.param)}; });

std::string repeated(std::size_t count, auto piece) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i)
    text += piece(i);
  return text;
}

struct Large {
  std::string_view name;
  ControlParser parser;
  std::string (*text)();
};

std::string vip_line(std::string_view name, std::string_view address, std::string_view ports) {
  return fmt::format(
      "- {{name: {}, address: {}, port: {}, protocol: TCP, forward: {{mode: ipip}}, backends: "
      "[]}}\n",
      name, address, ports);
}

/// What takes the square of their size takes longer than the runner waits for a test.
class LargeTexts : public ::testing::TestWithParam<Large> {};

TEST_P(LargeTexts, AreJudged) {
  const std::string text = GetParam().text();
  EXPECT_EQ(check_control(GetParam().parser, text), "");
}

INSTANTIATE_TEST_SUITE_P(
    , LargeTexts,
    ::testing::Values(
        Large{"ALineOfTenMegabytes", ControlParser::kConfig,
              [] {
                return "version: 1\nnode: {interfaces: [" + std::string(10 << 20, 'e') + "]}\n";
              }},
        Large{"AKeyOfTenMegabytes", ControlParser::kConfig,
              [] { return std::string(10 << 20, 'e') + ": 1\n"; }},
        Large{"ACommentOfTenMegabytes", ControlParser::kConfig,
              [] { return "version: 1\n#" + std::string(10 << 20, 'e') + "\n"; }},
        Large{"AMillionBrackets", ControlParser::kConfig,
              [] { return std::string(1'000'000, '['); }},
        Large{"AMillionBraces", ControlParser::kConfig, [] { return std::string(1'000'000, '{'); }},
        Large{"AMillionDashes", ControlParser::kConfig,
              [] { return repeated(500'000, [](std::size_t) { return "- "; }); }},
        Large{"AMillionQuestionMarks", ControlParser::kConfig,
              [] { return repeated(500'000, [](std::size_t) { return "? "; }); }},
        Large{"AMillionEmptyLines", ControlParser::kConfig,
              [] { return std::string(1'000'000, '\n') + "version: 1\n"; }},
        Large{"ManyDocuments", ControlParser::kConfig,
              [] { return repeated(100'000, [](std::size_t) { return "---\n"; }); }},
        Large{"ManyUnknownKeys", ControlParser::kConfig,
              [] {
                return repeated(20'000, [](std::size_t i) { return fmt::format("k{}: 1\n", i); });
              }},
        Large{"ManyKeysTwice", ControlParser::kConfig,
              [] { return repeated(100'000, [](std::size_t) { return "version: 1\n"; }); }},
        Large{"ManyVipsOfOneName", ControlParser::kConfig,
              [] {
                return "version: 1\nvips:\n" + repeated(10'000, [](std::size_t i) {
                         return vip_line("a", fmt::format("10.0.{}.{}", i / 250, i % 250 + 1),
                                         "80");
                       });
              }},
        Large{"ManyRangesOfOneAddress", ControlParser::kConfig,
              [] {
                return "version: 1\nvips:\n" + repeated(10'000, [](std::size_t i) {
                         return vip_line(fmt::format("v{}", i), "203.0.113.1",
                                         fmt::format("{}-{}", 3 * i + 1, 3 * i + 2));
                       });
              }},
        Large{"ABodyOfAMillionMembers", ControlParser::kVip,
              [] {
                return "{" +
                       repeated(1'000'000,
                                [](std::size_t i) { return fmt::format("\"{}\":1,", i); }) +
                       "\"vip\":1}";
              }},
        Large{"ABodyOfAMillionBrackets", ControlParser::kBackend,
              [] { return "{\"address\":" + std::string(1'000'000, '['); }},
        Large{"ABodyOfAMillionListsInLists", ControlParser::kSubmission,
              [] {
                return R"({"file":)" + std::string(1'000'000, '[') + std::string(1'000'000, ']') +
                       "}";
              }},
        Large{"ManyBackends", ControlParser::kVip,
              [] {
                return R"({"vip":"203.0.113.1:80/tcp","backends":[)" +
                       repeated(100'000,
                                [](std::size_t i) {
                                  return fmt::format("{}{{\"address\":\"10.{}.{}.{}\"}}",
                                                     i == 0 ? "" : ",", i / 62500, i / 250 % 250,
                                                     i % 250 + 1);
                                }) +
                       "]}";
              }},
        Large{"ManyPrefixes", ControlParser::kVip,
              [] {
                return R"({"vip":"203.0.113.1:80/tcp","sources":{"deny":[)" +
                       repeated(100'000,
                                [](std::size_t i) {
                                  return fmt::format("{}\"10.{}.{}.{}\"", i == 0 ? "" : ",",
                                                     i / 62500, i / 250 % 250, i % 250 + 1);
                                }) +
                       "]}}";
              }},
        Large{"ManyDevices", ControlParser::kLoad,
              [] {
                return R"({"devices":["eth0")" +
                       repeated(300'000, [](std::size_t i) { return fmt::format(",\"d{}\"", i); }) +
                       "]}";
              }},
        Large{"ManyFrames", ControlParser::kTrace,
              [] {
                return R"({"packets":["")" +
                       repeated(500'000, [](std::size_t) { return ",\"00\""; }) + "]}";
              }},
        Large{"AHeadWithoutAnEnd", ControlParser::kHttp,
              [] { return "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(10 << 20, 'a'); }},
        Large{"ChunksOfAByte", ControlParser::kHttp,
              [] {
                return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
                       repeated(1'000'000, [](std::size_t) { return "1\r\na\r\n"; }) + "0\r\n\r\n";
              }}),
    [](const auto& test) { return std::string{test.param.name}; });

}  // namespace
}  // namespace weir::testing
