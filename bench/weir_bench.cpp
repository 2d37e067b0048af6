// weir-bench: what `weir bench` runs. It reads the command line and hands it to the suite, which is
// Python, as one JSON document: options are described here and nowhere else.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/man/page.h"

namespace weir::bench {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

namespace fs = std::filesystem;

struct Words {
  std::vector<std::string> groups;
  std::vector<std::string> rows;
  bool quick = false;
  int rounds = 0;  // the suite's own
  std::string json;
  std::string report;
  std::string against;
  std::array<std::string, 2> compared;
};

std::string complain_of_empty(const std::string& text) {
  return text.empty() ? "expected a name" : "";
}

void add_options(CLI::App& app, Words& words) {
  app.add_option("groups", words.groups, "what is measured; everything if nothing is named")
      ->check(CLI::IsMember({"l4", "services", "tcp", "l7", "control"}));
  app.add_flag("--quick", words.quick, "short turns: everything in about three minutes");
  app.add_option("--rounds", words.rounds,
                 "of each series; contenders take turns in them (5, with --quick 3)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--rows", words.rows, "only series with a row whose id matches, as l7.https_*")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--json", words.json, "the results, into this file")->check(complain_of_empty);
  app.add_option("--report", words.report,
                 "RESULTS.md, SCALING.md, results.json and plots, into this directory")
      ->check(complain_of_empty);
  app.add_option("--against", words.against,
                 "results of before; ends with 3 where a ratio is worse by more than the noise")
      ->check(complain_of_empty);
}

/// Where the suite and the programs that it starts are.
struct Places {
  fs::path suite;
  fs::path programs;
};

/// Beside an installed program, or in the trees that this one was built from and in.
Places places_of(const fs::path& program) {
  const fs::path prefix = program.parent_path().parent_path();
  if (fs::exists(prefix / "share/weir/bench/suite"))
    return {prefix / "share/weir/bench/suite", prefix / "lib/weir"};
  return {fs::path{WEIR_SOURCE_DIR} / "bench/suite", WEIR_BINARY_DIR};
}

nlohmann::ordered_json document_of(const Words& words, bool is_compare,
                                   const std::string& command) {
  nlohmann::ordered_json json{{"command", command},     {"groups", words.groups},
                              {"rows", words.rows},     {"quick", words.quick},
                              {"rounds", words.rounds}, {"json", words.json},
                              {"report", words.report}, {"against", words.against}};
  if (is_compare) json["compare"] = words.compared;
  return json;
}

/// Until the suite can be interrupted: it takes them (interrupts.py) once it knows what to say and
/// to take down.
void hold_interrupts() {
  sigset_t interrupts;
  sigemptyset(&interrupts);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    sigaddset(&interrupts, number);
  sigprocmask(SIG_BLOCK, &interrupts, nullptr);
}

/// So that no file of the suite's gets the number of a closed one, and with it what is said.
void open_standard_files() {
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(file, F_GETFD) < 0) static_cast<void>(::open("/dev/null", O_RDWR));
}

int start(const nlohmann::ordered_json& json) {
  std::error_code error;
  const auto [suite, programs] = places_of(fs::read_symlink("/proc/self/exe", error));
  if (!fs::exists(suite / "__main__.py")) {
    fmt::print(stderr, "weir: the benchmarks are not in {}: run weir bench from its source tree\n",
               suite.string());
    return kFailed;
  }
  ::setenv("WEIR_BUILD", programs.c_str(), 0);  // what the user says goes first
  const std::string path = suite.string();
  std::string words;
  try {
    words = json.dump();
  } catch (const nlohmann::json::type_error&) {
    fmt::print(stderr, "weir: a word of the command line is not UTF-8, as it has to be\n");
    return kUsage;
  }
  open_standard_files();
  hold_interrupts();
  ::execlp("python3", "python3", "-B", path.c_str(), words.c_str(), nullptr);
  fmt::print(stderr, "weir: python3 cannot be started: {}\n", std::strerror(errno));
  return kFailed;
}

int run(int argc, char** argv) {
  Words words;
  CLI::App app{"Measures Weir on this machine, beside what it replaces."};
  app.name("weir bench");
  man::add_man_option(app, "weir-bench");
  add_options(app, words);
  CLI::App* compare = app.add_subcommand("compare", "Two files of results: a verdict for each row");
  compare->add_option("before", words.compared[0], "results of --json")->required();
  compare->add_option("after", words.compared[1], "results of --json")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "weir: {}; see 'weir bench --help'\n", error.what());
    return kUsage;
  }
  std::string command = "weir bench";
  for (int i = 1; i < argc; ++i)
    command += fmt::format(" {}", argv[i]);
  return start(document_of(words, compare->parsed(), command));
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) { return weir::bench::run(argc, argv); }
