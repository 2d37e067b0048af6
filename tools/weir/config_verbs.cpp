#include "tools/weir/verbs.h"

/// Configuration files and revisions.
namespace weir::cli {
namespace {

void add_only(CLI::App& command, Arguments& arguments) {
  command.add_option("--only", arguments.only, "ask one daemon, where the other runs elsewhere")
      ->check(CLI::IsMember({"l4", "l7"}));
}

ApplyTo to_of(const Arguments& arguments) {
  if (arguments.only == "l4") return ApplyTo::kL4;
  return arguments.only == "l7" ? ApplyTo::kL7 : ApplyTo::kBoth;
}

void add_apply(CLI::App& app, Arguments& arguments) {
  ApplyOptions& options = arguments.apply;
  CLI::App* command =
      reading_verb(app, "apply", "Apply a configuration file: all of it, or nothing", arguments,
                   [&](const Daemons& daemons) {
                     options.to = to_of(arguments);
                     return apply(daemons, options);
                   });
  command->add_option("-f,--file", options.file, "the file; - for standard input")->required();
  command->add_flag("--dry-run", options.dry_run, "say what would change, and change nothing");
  command->add_flag("--partial", options.partial,
                    "leave out objects that are wrong, and say which: exit status 3 then");
  add_only(*command, arguments);
}

void add_diff(CLI::App& app, Arguments& arguments) {
  DiffOptions& options = arguments.diff;
  CLI::App* command = reading_verb(
      app, "diff", "Show what applying a file would change; exit status 0 nothing, 1 something",
      arguments, [&](const Daemons& daemons) {
        options.to = to_of(arguments);
        return diff(daemons, options);
      });
  CLI::Option* file = command->add_option(
      "FILE", options.file, "the file; - for standard input; without it, the one applied last");
  command
      ->add_option("--revision", options.revision, "what going back to this revision would change")
      ->excludes(file);
  command->add_flag("--partial", options.partial, "as apply --partial would do it");
  add_only(*command, arguments);
}

void add_revisions(CLI::App& app, Arguments& arguments) {
  reading_verb(app, "history", "Show the newest revisions: when, why, what changed", arguments,
               [&](const Daemons& daemons) { return history(daemons, format_of(arguments)); });
  RollbackOptions& options = arguments.rollback;
  CLI::App* command = reading_verb(app, "rollback", "Go back to an earlier revision, as a new one",
                                   arguments, [&](const Daemons& daemons) {
                                     options.to = to_of(arguments);
                                     return rollback(daemons, options);
                                   });
  command->add_option("REVISION", options.revision, "its number, see 'weir history'")->required();
  add_only(*command, arguments);
  verb(app, "export", "Print what runs as a configuration file", arguments,
       [](const Daemons& daemons) { return export_config(daemons); });
}

}  // namespace

void add_config_verbs(CLI::App& app, Arguments& arguments) {
  CLI::App* check_verb = verb(
      app, "check",
      "Check a configuration file against rules and host, but no certificates; needs no daemon",
      arguments, [&](const Daemons&) { return check(arguments.check); });
  check_verb->add_option("-f,--file", arguments.check.file, "the file; - for standard input")
      ->required();
  check_verb->add_flag("!--no-host", arguments.check.against_host,
                       "do not compare with this host's devices and addresses");
  add_diff(app, arguments);
  add_apply(app, arguments);
  add_revisions(app, arguments);
}

}  // namespace weir::cli
