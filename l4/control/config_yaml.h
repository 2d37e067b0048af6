#pragma once

#include <string>
#include <vector>

#include "l4/control/model.h"

/// A model as a configuration file that a person would write: defaults are left out.
namespace weir::control {

/// Applied, the text gives the model again, with what it needs said: VIPs without a name get one of
/// their address, the `manual` ones, sorted by key, stand behind the model's own and are marked.
/// The hash seed is never in it, only where its file is; one that stood in a configuration leaves a
/// comment that says so. Equal models give equal texts.
std::string to_yaml(const Model& model, const std::vector<Vip>& manual = {});

}  // namespace weir::control
