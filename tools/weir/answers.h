#pragma once

#include <string>
#include <variant>
#include <vector>

#include "l4/control/admin.h"
#include "l4/control/config.h"
#include "tools/weir/commands.h"
#include "tools/weir/members.h"

/// What the verbs share: asking a daemon, and turning its JSON into sections of a report.
namespace weir::cli {

using Answer = std::variant<Json, Failure>;

Failure failure_of(const Error& error);
Failure failure_of(const std::vector<control::Diagnostic>& diagnostics, const std::string& file);

/// A JSON object, or why there is none.
Answer ask(const control::AdminClient& client, const std::string& method, const std::string& path,
           const Json& body = {},
           std::chrono::seconds patience = control::AdminClient::kReplyTimeout);

std::vector<Json> row_of(const Json& object, const std::vector<std::string>& columns);
Section section_of(std::string name, std::vector<std::string> columns, const Json& objects);
Section record_of(std::string name, std::vector<std::string> columns, const Json& object);

/// "?vip=…" for one VIP.
std::string query_of(const control::VipKey& key);

Outcome note(std::string sentence);

/// A file as people know it: standard input has no name of its own.
std::string shown_name(const std::string& file);

}  // namespace weir::cli
