#pragma once

#include <optional>
#include <string>
#include <vector>

#include "l4/base/result.h"
#include "l7/http/message.h"
#include "l7/proxy/generation.h"
#include "l7/proxy/snapshot.h"

namespace weir::l7 {

/// A request that nobody makes.
struct ExplainRequest {
  std::string method = "GET";
  std::string url;  ///< "https://shop.example/cart?x=1"; scheme, host and path count
  std::vector<std::pair<std::string, std::string>> headers;
  std::optional<wire::Endpoint> vip = {};  ///< of several with that port; else the first that fits
};

struct ExplainedCandidate {
  std::string route;
  std::string rule;
  std::string match;   ///< its conditions, for people
  std::string failed;  ///< the one that does not hold; empty: all do
};

/// What would become of it, found by what serves real requests.
struct Explanation {
  std::string vip;
  std::string listener;
  std::string host;
  std::string path;  ///< normalised, as routes see it
  std::string route;
  std::string rule;
  std::string match;
  const proxy::Rule* chosen = nullptr;  ///< lives as long as the snapshot
  std::string outcome;                  ///< "proxy", "redirect", "respond" or "refuse"
  int status = 0;                       ///< of an answer that no endpoint gives
  std::string reason;                   ///< as in the access log; of an answer of our own
  std::string location;                 ///< of a redirect
  std::string sent_host;                ///< what endpoints are asked for
  std::string sent_target;
  std::vector<ExplainedCandidate> candidates;  ///< those whose path fits, in order of precedence
};

/// "path prefix /cart, method GET, header x-canary = yes".
std::string match_text(const control::RouteMatch& match);

/// kInvalid where the URL or a header cannot be read. Without `files`, the snapshot's, certificates
/// are taken to be for every name.
Result<Explanation> explain(const proxy::Snapshot& snapshot, const ExplainRequest& request,
                            const proxy::TlsFiles* files = nullptr);

}  // namespace weir::l7
