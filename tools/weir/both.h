#pragma once

#include <string>
#include <vector>

#include "tools/weir/answers.h"
#include "tools/weir/commands.h"

/// A change that both daemons make or neither.
namespace weir::cli {

/// What one daemon is asked: first whether it would, then to do it.
struct Step {
  const control::AdminClient* client;
  std::string check_path;
  Json check_body;
  std::string do_path;
  Json do_body;
};

struct Joint {
  std::vector<Step> steps;  ///< in the order in which they are done
  std::string file;         ///< the configuration, as it was typed
  std::string absolute;     ///< and as daemons name it in diagnostics
};

/// The way to an earlier revision.
struct Return {
  Joint joint;
  bool leaves_l7 = false;  ///< no text of that revision is kept that weir-l7 could be given
};
std::variant<Return, Failure> way_back(const Daemons& daemons, std::uint64_t number, ApplyTo to);

/// Whether weir-l7 is asked: where it alone is meant, and where both are and it runs. An error
/// where it should run and does not answer, for half of a change is none.
Result<bool> is_for_l7(const Daemons& daemons, ApplyTo to);

/// The answers of all daemons to whether they would; or why one would not.
std::variant<std::vector<Json>, Failure> ask_all(const Joint& joint);

/// Asks all, then lets each do it. Where one fails after all, weir-l7 is given again what it had
/// before. Rows of "applied", changes and warnings as notes, and what was left out.
Outcome do_all(const Joint& joint);

/// The same of what would be done, for answers of ask_all().
Outcome would_do(const Joint& joint, const std::vector<Json>& answers);

}  // namespace weir::cli
