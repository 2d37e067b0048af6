#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace weir::cli {

/// A word that may stand next, and what it means; the meaning may be empty.
struct Candidate {
  std::string word;
  std::string meaning;
};

/// What is not in the tree of commands, but on this machine; each may be empty.
struct Surroundings {
  std::function<std::vector<Candidate>()> vips;
  std::function<std::vector<Candidate>(const std::string& vip)> backends;
  std::function<std::vector<Candidate>()> devices;
  std::function<std::vector<Candidate>()> rules;  ///< "route/rule"
};

/// Stands alone among the candidates where the name of a file is to follow: the shell knows those.
inline constexpr std::string_view kFilesCandidate = ":files";

/// What may follow `words`, of which the last, empty or not, is being written. Made from the tree
/// of commands, so that it cannot know less than the program. Words that make no sense complete to
/// nothing.
std::vector<Candidate> candidates_for(const CLI::App& app, const std::vector<std::string>& words,
                                      const Surroundings& surroundings);

/// What the daemons at these sockets and this host have; nothing where they do not answer.
Surroundings surroundings_of(const std::string& l4_socket, const std::string& l7_socket);

/// A script for "bash", "zsh" or "fish" that asks `weir __complete` for each word.
std::string completion_script(std::string_view shell);

}  // namespace weir::cli
